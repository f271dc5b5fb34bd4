//! Asking on the terminal.

use twinlock::Side;

use super::{Wish, parse};
use crate::console::Console;
use crate::exit::{Failure, Kind};

const PROVIDER: &str = "\
The provider's key is in your cloud's key manager. Name it by its URI:
  aws-kms://<key ARN>  or  aws-kms://alias/<name>
  vault://<host[:port]>/<mount>/keys/<name>
or leave the line empty for a key in a file, which is for development only.";

const CUSTOMER: &str = "\
The customer's key is in your token. Name it by its URI (RFC 7512):
  pkcs11:token=<label>;object=<label>?module-path=<path>&pin-source=file:<path>
or leave the line empty to create a SoftHSM token and a key in it.";

/// Asks for the key of `side` until there is an answer that makes sense.
pub(super) fn key(console: Console, side: Side) -> Result<Wish, Failure> {
    console.say(match side {
        Side::Provider => PROVIDER,
        Side::Customer => CUSTOMER,
    });
    loop {
        let Some(answer) = console.ask(&format!("{side} key:"))? else {
            return Err(Failure::new(Kind::Interrupted, "no answer; nothing was written"));
        };
        if answer.is_empty() {
            return Ok(Wish::Create);
        }
        match parse(side, &answer) {
            Ok(spec) => return Ok(Wish::Use(spec)),
            Err(failure) => {
                console.say(&format!("{}; try again, or leave with Ctrl-C", failure.message))
            }
        }
    }
}
