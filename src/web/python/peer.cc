// SPDX-License-Identifier: MIT
#include "web/python/peer.h"

#include <sys/socket.h>

#include <new>

#include "python/interp/sockaddr.h"

namespace cxxloop::python {
namespace {

// (host, port) of an IP address, whose other fields a scope leaves out; else None. Null: the indicator is set.
Ref host_and_port(Gil gil, const sockaddr_storage& address, socklen_t size) noexcept {
  const bool is_inet = size > 0 && (address.ss_family == AF_INET || address.ss_family == AF_INET6);
  const Ref whole = is_inet ? sockaddr_to_object(gil, address, size) : Ref::borrow(Py_None);
  if (!whole && PyErr_Occurred() == nullptr) return Ref::borrow(Py_None);
  if (!whole || !PyTuple_Check(whole.get()) || PyTuple_GET_SIZE(whole.get()) == 2) return Ref::borrow(whole.get());
  return Ref::steal(PyTuple_GetSlice(whole.get(), 0, 2));
}

Ref server_of(Gil gil, int fd) noexcept {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return Ref::borrow(Py_None);
  if (address.ss_family != AF_UNIX) return host_and_port(gil, address, size);
  const Ref path = sockaddr_to_object(gil, address, size);
  if (!path) return {};
  if (!PyUnicode_Check(path.get())) return Ref::borrow(Py_None);  // a name without a path, which is bytes
  return Ref::steal(PyTuple_Pack(2, path.get(), Py_None));
}

Ref client_of(Gil gil, int fd, const io::Address& known) noexcept {
  if (known.size > 0) return host_and_port(gil, known.storage, known.size);
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return Ref::borrow(Py_None);
  return host_and_port(gil, address, size);
}

bool is_trusted(const TrustedPeers& trusted, PyObject* client) noexcept {
  if (client == Py_None) return trusted.contains(std::string_view());
  Py_ssize_t size = 0;
  const char* const host = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(client, 0), &size);
  if (host != nullptr) return trusted.contains({host, static_cast<size_t>(size)});
  PyErr_Clear();
  return false;
}

}  // namespace

Peer* make_peer(Gil gil, int fd, const io::Address& address, const TrustedPeers& trusted) noexcept {
  Ref client = client_of(gil, fd, address);
  Ref server = client ? server_of(gil, fd) : Ref();
  if (!server) return nullptr;
  Peer* const peer = new (std::nothrow) Peer;
  if (peer == nullptr) {
    PyErr_NoMemory();
    return nullptr;
  }
  peer->is_trusted = !trusted.trusts_nobody() && is_trusted(trusted, client.get());
  peer->client = std::move(client);
  peer->server = std::move(server);
  return peer;
}

}  // namespace cxxloop::python
