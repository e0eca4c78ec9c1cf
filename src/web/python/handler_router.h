// SPDX-License-Identifier: MIT
//
// web/python/handler_router.h: finds what a path leads to, in time that does not grow with the number of routes.
//
// cxxloop/web/router.py is the same in Python, says which of several routes is taken, and refuses wrong paths: whatever is
// added here was added there first.
// Thread: any that holds the GIL.  Python: none.  Owns: copies of the texts it is given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace cxxloop::python {

class HandlerRouter {
 public:
  struct Value {
    std::string_view text;  // of the path
    bool is_int;
  };
  // What find() has found.
  enum class Found : uint8_t { route, wrong_method, nothing };
  struct Row {
    std::string method;
    size_t target;
  };
  // Routes of one shape.
  using Leaf = std::vector<Row>;
  // Of one find(); may be used for the next one, which saves an allocation.
  struct Match {
    std::string_view method;
    size_t target = 0;               // of a route
    std::vector<Value> values;       // likewise; views of the path
    std::vector<const Leaf*> seen;   // of wrong_method: the path fits these
  };

  HandlerRouter() noexcept : root_(std::make_unique<Node>()) {}

  // REQUIRES: Router.add() has taken this method and path.
  void add(std::string_view method, std::string_view path, size_t target) noexcept;
  // `path`: decoded, as UTF-8.
  [[nodiscard]] Found find(std::string_view method, std::string_view path, Match& match) const noexcept;
  // Of wrong_method: sorted, each once; valid until the next add().
  [[nodiscard]] static std::vector<std::string_view> allowed(const Match& match) noexcept;

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  template <class T>
  using Map = std::unordered_map<std::string, T, Hash, std::equal_to<>>;
  // Where a path may be after some of its segments.
  struct Node {
    Map<std::unique_ptr<Node>> literals;
    std::unique_ptr<Node> ints;
    std::unique_ptr<Node> strings;
    Leaf end;
    Leaf rest;  // whatever follows, as one parameter
  };

  [[nodiscard]] Leaf& descend(std::string_view path) noexcept;
  [[nodiscard]] static bool walk(const Node& node, std::string_view path, size_t at, Match& match) noexcept;
  [[nodiscard]] static bool walk_with(const Node& node, std::string_view path, size_t next, const Value& value, Match& match) noexcept;
  [[nodiscard]] static bool take(const Leaf& leaf, Match& match) noexcept;

  Map<Leaf> exact_;
  std::unique_ptr<Node> root_;
  bool has_parameters_ = false;
};

}  // namespace cxxloop::python
