//! Nothing: this package only pins what `scripts/lib.sh` builds kryoptic from.
#![forbid(unsafe_code)]
