
//! Stub.
