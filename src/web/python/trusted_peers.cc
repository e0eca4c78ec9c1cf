// SPDX-License-Identifier: MIT
#include "web/python/trusted_peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>
#include <cstring>

namespace cxxloop::python {
namespace {

constexpr size_t address_text_max = INET6_ADDRSTRLEN;

// 4 or 16 bytes; 0: the host is no address.
size_t parse_address(std::string_view host, std::array<uint8_t, 16>& address) noexcept {
  std::array<char, address_text_max> text;
  if (host.size() >= text.size()) return 0;
  std::memcpy(text.data(), host.data(), host.size());
  text[host.size()] = '\0';
  if (inet_pton(AF_INET, text.data(), address.data()) == 1) return 4;
  return inet_pton(AF_INET6, text.data(), address.data()) == 1 ? 16 : 0;
}

bool starts_alike(const uint8_t* left, const uint8_t* right, size_t bits) noexcept {
  const size_t bytes = bits / 8;
  if (std::memcmp(left, right, bytes) != 0) return false;
  const unsigned rest = bits % 8;
  return rest == 0 || (left[bytes] ^ right[bytes]) >> (8 - rest) == 0;
}

std::string_view trim(std::string_view text) noexcept {
  constexpr std::string_view white_space = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(white_space);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(white_space) - first + 1);
}

bool parse_port(std::string_view text, long* port) noexcept {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), *port);
  return error == std::errc() && stop == text.data() + text.size();
}

// "host", "host:port" of IPv4, "[host]" or "[host]:port" of IPv6; as uvicorn's _parse_host_port().
ForwardedHost split_port(std::string_view text) noexcept {
  long port = 0;
  if (!text.empty() && text.front() == '[') {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return {text};
    const std::string_view host = text.substr(1, end - 1);
    const std::string_view rest = text.substr(end + 1);
    if (rest.empty()) return {host};
    if (rest.front() != ':') return {text};
    return {host, parse_port(rest.substr(1), &port) ? port : 0};
  }
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos) return {text};
  if (!parse_port(text.substr(colon + 1), &port)) return {text};
  return {text.substr(0, colon), port};
}

bool read_text(PyObject* text, std::string_view* view) noexcept {
  Py_ssize_t size = 0;
  const char* const data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) return false;
  *view = {data, static_cast<size_t>(size)};
  return true;
}

}  // namespace

// Whatever the ipaddress module does not take for a network is a literal.
bool TrustedPeers::add(Gil, PyObject* parse_network, PyObject* text) noexcept {
  std::string_view literal;
  if (!PyUnicode_Check(text)) PyErr_Format(PyExc_TypeError, "a trusted peer must be a str, not %R", Py_TYPE(text));
  if (!PyUnicode_Check(text) || !read_text(text, &literal)) return false;
  literal = trim(literal);
  is_everybody_ |= literal == "*";
  if (is_everybody_ || literal.empty()) return true;
  const Ref name = Ref::steal(PyUnicode_FromStringAndSize(literal.data(), static_cast<Py_ssize_t>(literal.size())));
  const Ref network = name ? Ref::steal(PyObject_CallOneArg(parse_network, name.get())) : Ref();
  if (!network) {
    if (PyErr_ExceptionMatches(PyExc_ValueError) == 0) return false;
    PyErr_Clear();
    literals_.emplace_back(literal);
    return true;
  }
  const Ref address = Ref::steal(PyObject_GetAttrString(network.get(), "network_address"));
  const Ref packed = address ? Ref::steal(PyObject_GetAttrString(address.get(), "packed")) : Ref();
  const Ref prefix = packed ? Ref::steal(PyObject_GetAttrString(network.get(), "prefixlen")) : Ref();
  if (!prefix || !PyBytes_Check(packed.get())) return false;
  Network& row = networks_.emplace_back();
  row.address_bytes = static_cast<size_t>(PyBytes_GET_SIZE(packed.get()));
  row.prefix_bits = static_cast<size_t>(PyLong_AsLong(prefix.get()));
  std::memcpy(row.address.data(), PyBytes_AS_STRING(packed.get()), row.address_bytes);
  return true;
}

bool TrustedPeers::assign(Gil gil, PyObject* trusted) noexcept {
  if (PyUnicode_Check(trusted)) {
    const Ref items = Ref::steal(PyObject_CallMethod(trusted, "split", "s", ","));
    return items && assign(gil, items.get());
  }
  const Ref module = Ref::steal(PyImport_ImportModule("ipaddress"));
  const Ref parse_network = module ? Ref::steal(PyObject_GetAttrString(module.get(), "ip_network")) : Ref();
  const Ref items = parse_network ? Ref::steal(PySequence_Tuple(trusted)) : Ref();
  if (!items) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items.get()); ++i) {
    if (!add(gil, parse_network.get(), PyTuple_GET_ITEM(items.get(), i))) return false;
  }
  return true;
}

bool TrustedPeers::contains(std::string_view host) const noexcept {
  if (is_everybody_) return true;
  if (host.empty()) return false;
  std::array<uint8_t, 16> address;
  const size_t address_bytes = parse_address(host, address);
  if (address_bytes != 0) return contains(address, address_bytes);
  for (const std::string& literal : literals_) {
    if (literal == host) return true;
  }
  return false;
}

bool TrustedPeers::contains(const std::array<uint8_t, 16>& address, size_t address_bytes) const noexcept {
  for (const Network& network : networks_) {
    if (network.address_bytes == address_bytes &&
        starts_alike(network.address.data(), address.data(), network.prefix_bits)) {
      return true;
    }
  }
  return false;
}

bool TrustedPeers::contains(const io::Address& address) const noexcept {
  if (is_everybody_) return true;
  if (address.size == 0) return false;
  std::array<uint8_t, 16> bytes;
  if (address.storage.ss_family == AF_INET) {
    const in_addr& four = reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr;
    std::memcpy(bytes.data(), &four, sizeof(four));
    return contains(bytes, sizeof(four));
  }
  if (address.storage.ss_family != AF_INET6) return false;
  const in6_addr& six = reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr;
  std::memcpy(bytes.data(), &six, sizeof(six));
  return contains(bytes, sizeof(six));
}

// Each proxy appends whom it has heard from, so the list is read from its end.
ForwardedHost TrustedPeers::client_of(std::string_view forwarded_for) const noexcept {
  std::string_view left = forwarded_for;
  while (!is_everybody_) {
    const size_t comma = left.rfind(',');
    const bool is_first = comma == std::string_view::npos;
    const ForwardedHost hop = split_port(trim(is_first ? left : left.substr(comma + 1)));
    if (!contains(hop.host)) return hop;
    if (is_first) break;
    left = left.substr(0, comma);
  }
  return split_port(trim(forwarded_for.substr(0, forwarded_for.find(','))));
}

}  // namespace cxxloop::python
