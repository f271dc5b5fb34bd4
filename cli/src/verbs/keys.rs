//! `twinlock keys`

use crate::App;
use crate::args::KeysArgs;
use crate::exit::Failure;
use crate::report::Outcome;

pub(crate) fn run(_: &App<'_>, _: &KeysArgs) -> Result<Outcome, Failure> {
    Err(Failure::usage("not there yet"))
}
