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

  HandlerRouter() noexcept : root_(std::make_unique<Node>()) {}

  // REQUIRES: Router.add() has taken this method and path.
  void add(std::string_view method, std::string_view path, size_t target) noexcept;
  // `path`: decoded, as UTF-8.
  [[nodiscard]] Found find(std::string_view method, std::string_view path) noexcept;

  // --- of the last find() --------------------------------------------------------------------------------------
  [[nodiscard]] size_t target() const noexcept { return target_; }                          // of a route
  [[nodiscard]] const std::vector<Value>& values() const noexcept { return values_; }      // likewise; views of its path
  // Of wrong_method: sorted, each once.
  [[nodiscard]] std::vector<std::string_view> allowed() const noexcept;

 private:
  struct Row {
    std::string method;
    size_t target;
  };
  // Routes of one shape.
  using Leaf = std::vector<Row>;
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
  [[nodiscard]] bool walk(const Node& node, std::string_view path, size_t at) noexcept;
  [[nodiscard]] bool walk_with(const Node& node, std::string_view path, size_t next, const Value& value) noexcept;
  [[nodiscard]] bool take(const Leaf& leaf) noexcept;

  Map<Leaf> exact_;
  std::unique_ptr<Node> root_;
  bool has_parameters_ = false;

  std::string_view method_;  // this and the next three: of the find() that runs, or the last one
  size_t target_ = 0;
  std::vector<Value> values_;
  std::vector<const Leaf*> seen_;  // the path fits, the method does not
};

}  // namespace cxxloop::python
