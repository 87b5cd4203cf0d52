//! End-to-end claims about a real mesh: one binary, one module for each topic.
