// SPDX-License-Identifier: MIT
//
// python/interp/module_state.h: everything the module keeps per interpreter; there are no globals and no static objects.
#pragma once

#include <cstddef>
#include <span>

#include "base/flood_gauge.h"
#include "python/interp/ref.h"

// Attribute and method names used by native code, interned once per interpreter.
#define CXL_NAMES(X)                                                                                          \
  X(Future) X(Task) X(_accept_connection) X(_accept_failed) X(_add_writer) X(_after_flood) X(_attach) X(_buffer) X(_call_connection_lost) X(_follow_patches) X(monotonic)           \
  X(_cancelled)                                                                                               \
  X(_check_callback) X(_check_thread) X(_closing) X(_conn_lost) X(_current_handle) X(_detach) X(_drained)     \
  X(_end_of_file) X(_loop) X(_maybe_pause_protocol) X(_pipe) X(_protocol) X(_read_failed) X(_run)             \
  X(_start_reading) X(_step_of) X(_write_failed) X(_write_lost) X(_write_ready) X(buffer_updated)                         \
  X(call_exception_handler) X(close) X(connection_lost) X(connection_made) X(data_received) X(debug) X(done)  \
  X(eof_received) X(exc_info) X(exception) X(fileno) X(get_buffer) X(getpeername) X(getsockname) X(handle)    \
  X(loop) X(message) X(name) X(pause_writing) X(peername) X(proto) X(protocol) X(resume_writing) X(set_exception)      \
  X(set_result) X(slow_callback_duration) X(socket) X(sockname) X(source_traceback) X(time) X(transport)      \
  X(warning)                                                                                                  \
  X(datagram_received) X(error_received) X(family) X(send) X(sendto)                                          \
  X(_app_protocol_buffer_updated) X(_app_protocol_get_buffer) X(_call_eof_received) X(_control_ssl_reading)   \
  X(_do_flush) X(_do_handshake) X(_do_read) X(_do_shutdown) X(_do_write) X(_fatal_error)                        \
  X(_process_outgoing) X(_ssl_protocol) X(_sslobj) X(_start_shutdown) X(_write_appdata) X(append) X(join)     \
  X(max_size) X(pause_reading) X(pending) X(read) X(resume_reading) X(write)                                   \
  X(_closed) X(_io_refs) X(_run_once) X(call_at) X(call_soon) X(context) X(create_future) X(_server_side)

namespace cxxloop::python {

struct Names {
#define CXL_DECLARE_NAME(name) PyObject* name;
  CXL_NAMES(CXL_DECLARE_NAME)
#undef CXL_DECLARE_NAME
};

// Objects of asyncio and the standard library that native code calls, imported once per interpreter.
struct Imports {
  PyObject* tasks_module;                   // asyncio.tasks: Task is looked up at each use, programs replace it
  PyObject* futures_module;                 // asyncio.futures: Future likewise
  PyObject* buffered_protocol;              // asyncio.protocols.BufferedProtocol
  PyObject* set_result_unless_cancelled;    // asyncio.futures._set_result_unless_cancelled
  PyObject* extract_stack;                  // asyncio.format_helpers.extract_stack
  PyObject* format_callback_source;         // asyncio.format_helpers._format_callback_source
  PyObject* format_handle;                  // asyncio.base_events._format_handle
  PyObject* base_events_module;             // asyncio.base_events: its logger is looked up at each use, tests replace it
  PyObject* logger;                         // asyncio.log.logger
  PyObject* transport_socket;               // cxxloop._trsock.TransportSocket
  PyObject* constants_module;               // asyncio.constants
  PyObject* sendfile_mode_try_native;       // asyncio.constants._SendfileMode.TRY_NATIVE
  PyObject* socket_module;                  // socket: getaddrinfo and socket are looked up at each use, programs replace them
  PyObject* time_module;                    // time: monotonic is looked up at each run, programs replace it
  PyObject* selector_loop;                  // asyncio.unix_events._UnixSelectorEventLoop
  PyObject* socket_type;                    // the class that Python itself calls socket.socket
  PyObject* file_io;                        // io.FileIO
  PyObject* sys_getframe;                   // sys._getframe
  PyObject* base_create_task;               // asyncio.base_events.BaseEventLoop.create_task
  PyObject* handle_type;                    // asyncio.events.Handle
  PyObject* events_module;                  // asyncio.events
  PyObject* ssl_protocol;                   // asyncio.sslproto.SSLProtocol
  struct {
    PyObject* do_handshake;
    PyObject* wrapped;
    PyObject* flushing;
    PyObject* shutdown;
  } ssl_states;                             // of asyncio.sslproto.SSLProtocolState
  PyObject* ssl_again_errors;               // asyncio.sslproto.SSLAgainErrors; null: a Python without ssl
  PyObject* ssl_object;                     // ssl.SSLObject; null likewise
  PyTypeObject* ssl_memory_bio;             // ssl.MemoryBIO; null likewise
};

struct ModuleState {
  Names names;
  Imports imports;
  PyTypeObject* loop_type;
  PyTypeObject* handle_type;
  PyTypeObject* timer_handle_type;
  PyTypeObject* threadsafe_handle_type;  // handle_type before CPython 3.14
  PyTypeObject* socket_transport_type;
  PyTypeObject* stream_transport_type;
  PyTypeObject* datagram_transport_type;
  PyTypeObject* sock_op_type;
  PyTypeObject* listener_type;
  PyTypeObject* pipe_buffer_type;
  PyTypeObject* native_protocol_type;
  PyTypeObject* tls_protocol_type;
  PyObject* kwnames_loop;     // ("loop",)
  FloodGauge tls_gauge;
  bool task_takes_keywords;  // True exactly when asyncio's create_task() passes any keyword on to Task

  template <class F>
  void each_ref(F& f) noexcept {
    for (PyObject*& name : std::span(reinterpret_cast<PyObject**>(&names), sizeof(Names) / sizeof(PyObject*))) f(name);
    for (PyObject*& import : std::span(reinterpret_cast<PyObject**>(&imports), sizeof(Imports) / sizeof(PyObject*))) f(import);
    f(loop_type, handle_type, timer_handle_type, threadsafe_handle_type, socket_transport_type, stream_transport_type,
      datagram_transport_type, sock_op_type, listener_type, pipe_buffer_type, native_protocol_type, tls_protocol_type,
      kwnames_loop);
  }
};

// An attribute of a module, or the module itself. Null: the indicator is set.
Ref import_from(Gil gil, const char* module, const char* attribute = nullptr) noexcept;
// Interns the names and imports what Imports lists. False: the indicator is set.
[[nodiscard]] bool init_module_state(Gil gil, ModuleState& state) noexcept;

// The state of the _core module that defines `type` or one of its bases. Borrowed; the module outlives its types.
ModuleState* state_of_type(PyTypeObject* type) noexcept;

extern PyModuleDef core_module;

}  // namespace cxxloop::python
