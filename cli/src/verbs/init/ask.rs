//! Asking on the terminal.

use twinlock::Side;

use super::{Recovery, Wish, parse};
use crate::console::Console;
use crate::exit::{Failure, Kind};
use crate::settings::KeySpec;

const PROVIDER: &str = "\
The provider's key is in your cloud's key manager. Name it by its URI:
  aws-kms://<key ARN>  or  aws-kms://alias/<name>
  vault://<host[:port]>/<mount>/keys/<name>
or leave the line empty for a key in a file, which is for development only.";

const CUSTOMER: &str = "\
The customer's key is in your token. Name it by its URI (RFC 7512):
  pkcs11:token=<label>;object=<label>?module-path=<path>&pin-source=file:<path>
or, if a service of Double Key Encryption keeps it, by
  dke+https://<host[:port]>/[prefix/]<name>
or leave the line empty to create a SoftHSM token and a key in it.";

const RECOVERY: &str = "\
For recovery, name a second customer key: in another token, or on a smart card in
a safe. Without one, the loss of a key is the loss of every file. Leave the line
empty to do that later, with `twinlock init --recovery-customer URI`.";

const RECOVERY_PROVIDER: &str = "\
Its provider key, in another account or region; or leave the line empty for the
same one as above, whose loss is then still the loss of every file.";

/// Asks for a second keyslot.
pub(super) fn recovery(console: Console) -> Result<Option<Recovery>, Failure> {
    console.say(RECOVERY);
    let Some(customer) = further(console, Side::Customer)? else { return Ok(None) };
    console.say(RECOVERY_PROVIDER);
    let provider = further(console, Side::Provider)?;
    Ok(Some(Recovery { provider, customer }))
}

/// Asks for a key that need not be; none at the end of the input.
fn further(console: Console, side: Side) -> Result<Option<KeySpec>, Failure> {
    loop {
        match console.ask(&format!("{side} key for recovery:"))? {
            None => return Ok(None),
            Some(answer) if answer.is_empty() => return Ok(None),
            Some(answer) => match parse(side, &answer) {
                Ok(spec) => return Ok(Some(spec)),
                Err(failure) => console.say(&format!("{}; try again", failure.message)),
            },
        }
    }
}

/// Asks whether the public key that a service shows is the right one.
pub(super) fn pin(console: Console, key: &str, pin: &str) -> Result<bool, Failure> {
    console.tell(&format!(
        "{key} shows this public key:\n  {pin}\nWhoever exchanged it would open what you \
         encrypt. Ask the key's owner for its pin, on another\nway than this connection."
    ));
    let answer = console.ask("Is that the one? Type yes to trust it:")?;
    Ok(answer.as_deref() == Some("yes"))
}

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
