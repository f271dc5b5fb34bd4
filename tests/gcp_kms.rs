//! `gcp-kms://` keys against a server of our own that speaks Google's REST
//! interface, is called by Google's own client, and checks what Google would.

mod admin;
mod checks;
mod credentials;
mod failures;
mod lies;
mod logs;
mod rig;
mod round_trip;
