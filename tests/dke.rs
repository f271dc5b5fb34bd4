//! The DKE service as a program: clients that know nothing but the protocol,
//! tokens of an issuer of our own and of others, a token behind a module that
//! fails when it is told to.

mod callers;
mod client;
mod decrypting;
mod desk;
mod exchanged;
mod faults;
mod groups;
mod hostile;
mod issuer;
mod issuers;
mod keys;
mod migration;
mod running;
mod service;
mod timing;
mod watched;
