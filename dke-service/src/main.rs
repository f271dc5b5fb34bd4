//! The program `twinlock-dke`.
#![forbid(unsafe_code)]

use clap::Parser;

/// A key service for Microsoft Double Key Encryption: keys stay in your HSM.
#[derive(Parser)]
#[command(name = "twinlock-dke", version, max_term_width = 100)]
struct Arguments {}

fn main() {
    let Arguments {} = Arguments::parse();
}
