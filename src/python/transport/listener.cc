// SPDX-License-Identifier: MIT
//
// python/transport/listener.cc: what a loop serves: making transports, and listening sockets.
#include <cstddef>

#include "net/listener.h"
#include "python/handle/call_args.h"
#include "python/transport/datagram/datagram_transport.h"
#include "python/interp/cpython.h"
#include "python/interp/error.h"
#include "python/interp/fd_witness.h"
#include "python/loop/loop.h"
#include "python/interp/sockaddr.h"
#include "python/transport/stream/stream_transport.h"

namespace cxxloop::python {

// A listening socket of Server: accepts, makes socket, protocol and transport.
// Owned by the loop's table until it is stopped.
struct ListenerObject {
  PyObject_HEAD
  class Native final : public net::ListenerHandler, public Lingering {
   public:
    Native(ListenerObject& self, LoopCore& core, int fd_of_sock, const int* fd_witness) noexcept
        : self_(self), core_(core), fd(fd_of_sock), listener(*core.backend, fd_of_sock, *this, fd_witness) {}

    void on_accept(UniqueFd accepted, const io::Address& peer) noexcept override;
    void on_accept_error(Errno error) noexcept override;
    void on_stopped() noexcept override;
    void on_backend_drained(Gil gil) noexcept override;

    template <class F>
    void each_ref(F& f) noexcept {
      f(sock, protocol_factory, server, server_context, on_accepted, context);
    }

   private:
    Ref make_socket(Gil gil, UniqueFd accepted) noexcept;
    Ref make_socket_of_program(Gil gil, PyObject* socket_class, UniqueFd accepted) noexcept;
    Ref make_transport_by_loop(Gil gil, PyObject* conn, PyObject* made, PyObject* extra, PyObject* conn_context) noexcept;
    Ref make_transport(Gil gil, PyObject* conn, PyObject* address, PyObject* conn_context, Ref* protocol) noexcept;
    bool log_accepted(Gil gil, PyObject* conn, PyObject* address) noexcept;
    void refuse(Gil gil, PyObject* conn) noexcept;
    void close_connection(Gil gil, PyObject* conn) noexcept;
    void report_failure(Gil gil, PyObject* conn, PyObject* protocol) noexcept;

    ListenerObject& self_;
    LoopCore& core_;

   public:
    int fd;
    net::Listener listener;
    Ref sock;
    Ref protocol_factory;
    Ref server;
    Ref server_context;  // 3.15: create_server()'s context, copied for each connection; else null
    Ref on_accepted;     // on_accepted(conn, address) goes on with a connection of a TLS server; null: a plain one
    Ref context;         // the context _start_serving() was called in: asyncio's reader handle would keep it
    int family = -1;
    int type = -1;
    int proto = -1;
  };
  alignas(Native) unsigned char native_storage[sizeof(Native)];

  Native& native() noexcept { return *reinterpret_cast<Native*>(native_storage); }
};

// socket.accept() makes what the module calls `socket` by then: the class of a proxy, a tracer or a mock, say.
Ref ListenerObject::Native::make_socket_of_program(Gil, PyObject* socket_class, UniqueFd accepted) noexcept {
  const Ref arguments = Ref::steal(Py_BuildValue("(iii)", family, type, proto));
  const Ref keywords = arguments ? Ref::steal(Py_BuildValue("{s:i}", "fileno", accepted.get())) : Ref();
  if (!keywords) return {};
  (void)accepted.take();  // as in socket.accept(), one that the constructor refuses stays open
  // Runs Python: the constructor may close the server or the loop.
  Ref conn = Ref::steal(PyObject_Call(socket_class, arguments.get(), keywords.get()));
  const Ref set = conn ? Ref::steal(PyObject_CallMethod(conn.get(), "setblocking", "O", Py_False)) : Ref();
  return set ? std::move(conn) : Ref();
}

Ref ListenerObject::Native::make_socket(Gil gil, UniqueFd accepted) noexcept {
  const Ref socket_class = Ref::borrow(
      PyDict_GetItemWithError(PyModule_GetDict(core_.state.imports.socket_module), core_.state.names.socket));
  if (socket_class && socket_class.get() != core_.state.imports.socket_type) {
    return make_socket_of_program(gil, socket_class.get(), std::move(accepted));
  }
#ifdef SOCK_NONBLOCK
  const int flags = SOCK_NONBLOCK;  // tells the socket object that its timeout is 0, without a system call
#else
  const int flags = 0;
#endif
  bool owned = false;
  Ref conn = make_socket_object(gil, core_.state, family, type | flags, proto, accepted.get(), &owned);
  if (owned) (void)accepted.take();
  return conn;
}

// A socket that is not plain is served by asyncio's transport.
Ref ListenerObject::Native::make_transport_by_loop(Gil, PyObject* conn, PyObject* made, PyObject* extra,
                                                   PyObject* conn_context) noexcept {
  const Ref method = Ref::steal(PyObject_GetAttrString(as_object(core_.self), "_make_socket_transport"));
  const Ref arguments = method ? Ref::steal(PyTuple_Pack(2, conn, made)) : Ref();
  PyObject* const context_or_none = server_context ? conn_context : Py_None;
  PyObject* const server_or_none = server ? server.get() : Py_None;
  const Ref keywords = arguments ? Ref::steal(Py_BuildValue("{s:O,s:O,s:O}", "extra", extra, "server", server_or_none,
                                                            "context", context_or_none))
                                 : Ref();
  return keywords ? Ref::steal(PyObject_Call(method.get(), arguments.get(), keywords.get())) : Ref();
}

Ref ListenerObject::Native::make_transport(Gil gil, PyObject* conn, PyObject* address, PyObject* conn_context,
                                           Ref* protocol) noexcept {
  if (on_accepted) {
    PyObject* const args[] = {conn, address};
    return Ref::steal(PyObject_Vectorcall(on_accepted.get(), args, 2, nullptr));
  }
  // Runs Python: the factory may close the server or the loop.
  *protocol = Ref::steal(PyObject_CallNoArgs(protocol_factory.get()));
  if (!*protocol) return {};
  const Ref extra = Ref::steal(PyDict_New());
  if (!extra || PyDict_SetItem(extra.get(), core_.state.names.peername, address) < 0) return {};
  bool plain = false;
  if (!check_closed(gil, core_) || !is_plain_socket(gil, core_, conn, &plain)) return {};
  if (!plain) return make_transport_by_loop(gil, conn, protocol->get(), extra.get(), conn_context);
  return Ref::steal(make_stream_transport(
      gil, core_, {conn, protocol->get(), nullptr, extra.get(), server.get(), server_context ? conn_context : nullptr}));
}

bool ListenerObject::Native::log_accepted(Gil, PyObject* conn, PyObject* address) noexcept {
  const Ref format = Ref::steal(PyUnicode_FromString("%r got a new connection from %r: %r"));
  PyObject* const args[] = {core_.state.imports.logger, format.get(), server ? server.get() : Py_None, address, conn};
  return format && Ref::steal(PyObject_VectorcallMethod(core_.state.names.debug, args, 5, nullptr));
}

void ListenerObject::Native::on_accept(UniqueFd accepted, const io::Address& peer) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(reinterpret_cast<PyObject*>(&self_));
  const Ref conn = make_socket(gil, std::move(accepted));
  Ref address = conn && peer.size > 0 ? sockaddr_to_object(gil, peer.storage, peer.size) : Ref();
  if (conn && !address && PyErr_Occurred() == nullptr) {
    address = Ref::steal(PyObject_CallMethodNoArgs(conn.get(), core_.state.names.getpeername));
  }
  if (address && core_.debug && !log_accepted(gil, conn.get(), address.get())) address.reset();
  const Ref conn_context =
      address ? Ref::steal(PyContext_Copy(server_context ? server_context.get() : context.get())) : Ref();
  if (!conn_context) return refuse(gil, conn.get());
  Ref protocol;
  Ref transport;
  {
    const ContextScope scope(gil, conn_context.get());
    if (scope.entered()) transport = make_transport(gil, conn.get(), address.get(), conn_context.get(), &protocol);
  }
  if (!transport) report_failure(gil, conn.get(), protocol.get());
}

// The connection dies before anybody was asked for a protocol (no memory): asyncio tells about that always.
void ListenerObject::Native::refuse(Gil gil, PyObject* conn) noexcept {
  close_connection(gil, conn);
  report_or_leave(gil, core_, "Exception in callback Loop._accept_connection()");
}

// Leaves the indicator alone. `conn` may be null.
void ListenerObject::Native::close_connection(Gil gil, PyObject* conn) noexcept {
  if (conn == nullptr) return;
  Ref exception = take_exception(gil);
  const Ref closed = Ref::steal(PyObject_CallMethodNoArgs(conn, core_.state.names.close));
  if (!closed) PyErr_WriteUnraisable(conn);
  set_exception(gil, std::move(exception));
}

// Closes the connection. asyncio reports the failure in debug mode only.
void ListenerObject::Native::report_failure(Gil gil, PyObject* conn, PyObject* protocol) noexcept {
  close_connection(gil, conn);
  Ref exception = take_exception(gil);
  if (!core_.debug && !is_exit(exception.get())) return;
  set_exception(gil, std::move(exception));
  report_or_leave(gil, core_, "Error on transport creation for incoming connection",
                  {{core_.state.names.protocol, protocol}});
}

// Out of descriptors or memory: asyncio's rules for that are in _loop.py.
void ListenerObject::Native::on_accept_error(Errno error) noexcept {
  const Gil gil = Gil::in_slot();
  const Ref pin = Ref::borrow(reinterpret_cast<PyObject*>(&self_));
  const Ref exception = make_os_error(gil, error);
  PyObject* const loop = as_object(core_.self);
  PyObject* const args[] = {loop, exception.get(), sock.get(), protocol_factory.get(), server ? server.get() : Py_None,
                            server_context ? server_context.get() : Py_None, on_accepted ? on_accepted.get() : Py_None};
  if (!Ref::steal(PyObject_VectorcallMethod(core_.state.names._accept_failed, args, 7, nullptr))) {
    report_or_leave(gil, core_, "Exception in callback Loop._accept_failed()");
  }
}

void ListenerObject::Native::on_stopped() noexcept {
  unlink();
  Py_DECREF(&self_);
}

void ListenerObject::Native::on_backend_drained(Gil) noexcept {
  listener.mark_stopped();
  on_stopped();
}

namespace {

PyObject* as_object(ListenerObject* listener) noexcept { return reinterpret_cast<PyObject*>(listener); }
ListenerObject::Native& native_of(PyObject* self) noexcept { return reinterpret_cast<ListenerObject*>(self)->native(); }

// False: the indicator is set.
bool int_attribute(PyObject* object, const char* name, int* number) noexcept {
  const Ref value = Ref::steal(PyObject_GetAttrString(object, name));
  *number = value ? static_cast<int>(PyLong_AsLong(value.get())) : -1;
  return PyErr_Occurred() == nullptr;
}

void stop_listener(LoopCore& core, FdRow& row) noexcept {
  ListenerObject* const listener = std::exchange(row.listener, nullptr);
  if (listener == nullptr) return;
  if (listener->native().listener.stop()) {
    Py_DECREF(as_object(listener));
  } else {
    core.lingering.push_back(listener->native());
  }
}

// _start_listening(sock, protocol_factory, server, backlog, server_context, on_accepted)
PyObject* loop_start_listening(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!check_count("_start_listening", nargs, 6)) return nullptr;
  if (!check_closed(gil, core) || !check_forked(gil, core)) return nullptr;
  const int fd = parse_fileobj(gil, core, args[0]);
  if (fd < 0) return nullptr;
  const int backlog = static_cast<int>(PyLong_AsLong(args[3]));
  if (backlog == -1 && PyErr_Occurred() != nullptr) return nullptr;
  ListenerObject* const object = PyObject_GC_New(ListenerObject, core.state.listener_type);
  if (object == nullptr) return nullptr;
  const int* const fd_witness = fd_witness_of(core.state, args[0], fd);
  ListenerObject::Native& native = *new (object->native_storage) ListenerObject::Native(*object, core, fd, fd_witness);
  Ref owner = Ref::steal(as_object(object));
  native.sock = Ref::borrow(args[0]);
  native.protocol_factory = Ref::borrow(args[1]);
  if (args[2] != Py_None) native.server = Ref::borrow(args[2]);
  if (args[4] != Py_None) native.server_context = Ref::borrow(args[4]);
  if (args[5] != Py_None) native.on_accepted = Ref::borrow(args[5]);
  PyObject_GC_Track(as_object(object));
  native.context = Ref::steal(PyContext_CopyCurrent());
  if (!native.context || !int_attribute(args[0], "family", &native.family) ||
      !int_attribute(args[0], "type", &native.type) || !int_attribute(args[0], "proto", &native.proto)) {
    return nullptr;
  }
  FdRow* const row = make_fd_row(gil, core, fd);
  if (row == nullptr) return nullptr;
  stop_listener(core, *row);
  const Errno error = native.listener.start(backlog > 0 ? static_cast<uint32_t>(backlog) : 1);
  if (error != Errno::ok) return raise_errno(gil, error);
  row->listener = reinterpret_cast<ListenerObject*>(owner.release());
  Py_RETURN_NONE;
}

// Find the listener by the identity of its socket: a socket that was closed has lost its descriptor.
PyObject* loop_stop_listening(PyObject* self, PyObject* sock) {
  LoopCore& core = core_of(self);
  core.fd_rows.for_each([&core, sock](FdRow& row) {
    if (row.listener != nullptr && row.listener->native().sock.get() == sock) stop_listener(core, row);
  });
  Py_RETURN_NONE;
}

// What get_extra_info() answers. False: TypeError is set.
bool check_extra(PyObject* extra) noexcept {
  if (PyDict_Check(extra)) return true;
  PyErr_Format(PyExc_TypeError, "extra must be a dict, not %R", Py_TYPE(extra));
  return false;
}

// _make_stream_transport(sock, protocol, waiter, extra, server, context)
PyObject* loop_make_stream_transport(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!check_count("_make_stream_transport", nargs, 6)) return nullptr;
  if (args[3] != Py_None && !check_extra(args[3])) return nullptr;
  if (!check_closed(gil, core) || !check_forked(gil, core)) return nullptr;
  if (!ensure_fd_no_transport(gil, core, args[0])) return nullptr;
  return make_stream_transport(gil, core, {args[0], args[1], args[2], args[3], args[4], args[5]});
}

// _make_native_datagram_transport(sock, protocol, address, waiter, extra)
PyObject* loop_make_datagram_transport(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  const Gil gil = Gil::in_slot();
  LoopCore& core = core_of(self);
  if (!check_count("_make_native_datagram_transport", nargs, 5) || !check_extra(args[4])) return nullptr;
  if (!check_closed(gil, core) || !check_forked(gil, core)) return nullptr;
  if (!ensure_fd_no_transport(gil, core, args[0])) return nullptr;
  return make_datagram_transport(gil, core, {args[0], args[1], args[2], args[3], args[4]});
}

// Null: TypeError is set.
TransportObject* as_transport(const LoopCore& core, PyObject* object) noexcept {
  if (PyObject_TypeCheck(object, core.state.socket_transport_type)) return reinterpret_cast<TransportObject*>(object);
  PyErr_Format(PyExc_TypeError, "expected a transport of a cxxloop loop, not %R", Py_TYPE(object));
  return nullptr;
}

// sendfile takes the descriptor away from its transport for a while. KeyError, as asyncio's: it is away already.
PyObject* loop_forget_transport(PyObject* self, PyObject* transport) {
  LoopCore& core = core_of(self);
  TransportObject* const object = as_transport(core, transport);
  if (object == nullptr) return nullptr;
  if (transport_of_fd(core, object->native->fd) != object->native || object->native->is_lent) {
    const Ref number = Ref::steal(PyLong_FromLong(object->native->fd));
    if (number) PyErr_SetObject(PyExc_KeyError, number.get());
    return nullptr;
  }
  object->native->is_lent = true;
  Py_RETURN_NONE;
}

PyObject* loop_remember_transport(PyObject* self, PyObject* transport) {
  TransportObject* const object = as_transport(core_of(self), transport);
  if (object == nullptr) return nullptr;
  object->native->is_lent = false;
  Py_RETURN_NONE;
}

// What the callback that runs now has written so far. asyncio has sent it by now.
PyObject* loop_send_held_back(PyObject* self, PyObject*) {
  // Runs Python: a send that fails is reported, and may be what pauses a protocol.
  core_of(self).engine.cork().pull_early();
  Py_RETURN_NONE;
}

}  // namespace

Ref servers_of(Gil, LoopCore& core) noexcept {
  Ref servers = Ref::steal(PyList_New(0));
  core.fd_rows.for_each([&servers](const FdRow& row) {
    if (!servers || row.listener == nullptr || !row.listener->native().server) return;
    if (PyList_Append(servers.get(), row.listener->native().server.get()) < 0) servers.reset();
  });
  return servers;
}

void release_net(Gil gil, LoopCore& core) noexcept {
  core.fd_rows.for_each([&core](FdRow& row) { stop_listener(core, row); });
  core.fd_rows.for_each([gil](FdRow& row) {
    if (Served* const transport = std::exchange(row.transport, nullptr)) transport->detach_from_loop(gil);
  });
  // Runs Python: what a guest has served may end, and with it the destructors of a program.
  IntrusiveList<Lingering>& later = core.engine.cork().is_open() ? core.closed_guests : core.lingering;
  while (LoopGuest* const guest = core.guests.pop_front()) {
    if (!guest->on_loop_close(gil)) later.push_back(*guest);
  }
}

Ref accept_args_of(Gil, LoopCore& core, int fd) noexcept {
  const FdRow* const row = core.fd_rows.find(fd);
  if (row == nullptr || row->listener == nullptr) return {};
  const ListenerObject::Native& native = row->listener->native();
  PyObject* const server = native.server ? native.server.get() : Py_None;
  PyObject* const on_accepted = native.on_accepted ? native.on_accepted.get() : Py_None;
  return Ref::steal(Py_BuildValue("OOOOI", native.protocol_factory.get(), native.sock.get(), on_accepted, server,
                                  native.listener.accepts_max()));
}

constexpr Method net_methods[] = {
    {"_start_listening", loop_start_listening, nullptr},
    {"_stop_listening", loop_stop_listening, METH_O, nullptr},
    {"_make_stream_transport", loop_make_stream_transport, nullptr},
    {"_make_native_datagram_transport", loop_make_datagram_transport, nullptr},
    {"_forget_transport", loop_forget_transport, METH_O, nullptr},
    {"_remember_transport", loop_remember_transport, METH_O, nullptr},
    {"_send_held_back", loop_send_held_back, METH_NOARGS, nullptr},
    {},
};

bool add_listener_type(Gil gil, PyObject* module, ModuleState& state) noexcept {
  state.listener_type = make_heap_type(gil, module, {
      .name = "cxxloop._core.Listener",
      .object_bytes = sizeof(ListenerObject),
      .flags = Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
      .doc = "A listening socket served by a loop.",
      .traverse = traverse<native_of>,
      .dealloc = dealloc<native_of>,
      .is_public = false,
  });
  return state.listener_type != nullptr;
}

}  // namespace cxxloop::python
