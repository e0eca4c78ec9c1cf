// SPDX-License-Identifier: MIT
//
// benchmarks/net/websocket_client.cc: echo_client over WebSockets: a message is a binary message of the WebSocket at --path.

#include "load_run.h"
#include "websocket_connection.h"

int main(int argc, char** argv) { return cxxloop::benchmarks::run_load<cxxloop::benchmarks::WebSocketConnection>(argc, argv); }
