//! `twinlock init`

use crate::App;
use crate::args::InitArgs;
use crate::exit::Failure;
use crate::report::Outcome;

pub(crate) fn run(_: &App<'_>, _: &InitArgs) -> Result<Outcome, Failure> {
    Err(Failure::usage("not there yet"))
}
