//! Tests of the whole construction. They live inside the crate because the
//! known answers need a sooner key rotation than any caller may choose.

mod differential;
mod hostile;
mod kats;
mod keys;
mod places;
mod support;
mod vectors;
mod wycheproof;
