// SPDX-License-Identifier: MIT
#include "web/python/handler_router.h"

#include <algorithm>

namespace cxxloop::python {
namespace {

constexpr size_t int_digits_max = 18;  // an int of 64 bits

// Where the segment that begins at `at` ends.
size_t end_of_segment(std::string_view path, size_t at) noexcept { return std::min(path.find('/', at), path.size()); }

bool is_int(std::string_view segment) noexcept {
  return !segment.empty() && segment.size() <= int_digits_max &&
         std::ranges::all_of(segment, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

void HandlerRouter::add(std::string_view method, std::string_view path, size_t target) noexcept {
  const bool is_exact = path.find('{') == path.npos;
  Leaf& leaf = is_exact ? exact_[std::string(path)] : descend(path);
  leaf.push_back({std::string(method), target});
}

HandlerRouter::Leaf& HandlerRouter::descend(std::string_view path) noexcept {
  has_parameters_ = true;
  Node* node = root_.get();
  for (size_t at = 1; at <= path.size(); at = end_of_segment(path, at) + 1) {
    const std::string_view segment = path.substr(at, end_of_segment(path, at) - at);
    if (segment.ends_with(":path}")) return node->rest;
    const bool is_parameter = segment.starts_with('{');
    std::unique_ptr<Node>& child = !is_parameter                 ? node->literals[std::string(segment)]
                                   : segment.ends_with(":int}") ? node->ints
                                                                 : node->strings;
    if (child == nullptr) child = std::make_unique<Node>();
    node = child.get();
  }
  return node->end;
}

HandlerRouter::Found HandlerRouter::find(std::string_view method, std::string_view path, Match& match) const noexcept {
  match.method = method;
  match.values.clear();
  match.seen.clear();
  const auto exact = exact_.find(path);
  const bool is_found = (exact != exact_.end() && take(exact->second, match)) ||
                        (has_parameters_ && path.starts_with('/') && walk(*root_, path, 1, match));
  if (is_found) return Found::route;
  return match.seen.empty() ? Found::nothing : Found::wrong_method;
}

// Goes down from a node: the more special way first, and back from it if it leads nowhere. `at`: where the next segment
// begins; behind the path's end there is none. No deeper than the routes are long.
bool HandlerRouter::walk(const Node& node, std::string_view path, size_t at, Match& match) noexcept {
  if (at > path.size()) return take(node.end, match);
  const size_t end = end_of_segment(path, at);
  const std::string_view segment = path.substr(at, end - at);
  const auto literal = node.literals.find(segment);
  if (literal != node.literals.end() && walk(*literal->second, path, end + 1, match)) return true;
  if (node.ints != nullptr && is_int(segment) && walk_with(*node.ints, path, end + 1, {segment, true}, match)) return true;
  if (node.strings != nullptr && !segment.empty() && walk_with(*node.strings, path, end + 1, {segment, false}, match)) return true;
  if (node.rest.empty()) return false;
  match.values.push_back({path.substr(at), false});
  if (take(node.rest, match)) return true;
  match.values.pop_back();
  return false;
}

bool HandlerRouter::walk_with(const Node& node, std::string_view path, size_t next, const Value& value, Match& match) noexcept {
  match.values.push_back(value);
  if (walk(node, path, next, match)) return true;
  match.values.pop_back();
  return false;
}

// A HEAD finds the GET, too.
bool HandlerRouter::take(const Leaf& leaf, Match& match) noexcept {
  const Row* found = nullptr;
  for (const Row& row : leaf) {
    if (row.method == match.method) {
      found = &row;
      break;
    }
    if (row.method == "GET" && match.method == "HEAD") found = &row;
  }
  if (found != nullptr) {
    match.target = found->target;
  } else if (!leaf.empty()) {
    match.seen.push_back(&leaf);
  }
  return found != nullptr;
}

std::vector<std::string_view> HandlerRouter::allowed(const Match& match) noexcept {
  std::vector<std::string_view> methods;
  for (const Leaf* const leaf : match.seen) {
    for (const Row& row : *leaf) {
      methods.push_back(row.method);
      if (row.method == "GET") methods.push_back("HEAD");
    }
  }
  std::ranges::sort(methods);
  methods.erase(std::ranges::unique(methods).begin(), methods.end());
  return methods;
}

}  // namespace cxxloop::python
