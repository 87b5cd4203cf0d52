//! The harness: a real CA, real agents and real proxies in this process, on ports of their own.
