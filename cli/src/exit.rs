//! How a run ends: the one table of exit codes, and what each error of the
//! libraries comes down to.

use std::fmt::Display;
use std::io;
use std::path::Path;

use twinlock::file::{ReencryptFileError, RewrapFileError};
use twinlock::{
    ContextError, DecryptError, FailedAttempt, HeaderError, HolderError, HolderErrorKind,
    KeyUriError, OpenError, OpenErrorKind, PayloadError, PrepareError, ReadHeaderError,
    RewrapError, WrongSide,
};

/// What a failed run comes down to. [`Kind::code`] is the exit code, and
/// [`Kind::name`] the `error.kind` of `--json`; both are promised to scripts
/// (`docs/cli.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None of the others.
    Failed,
    /// Reading or writing failed.
    Io,
    /// There is no room for the output.
    NoSpace,
    /// The output exists and `--force` was not given.
    OutputExists,
    /// An outcome of `prove` is not as two keys with two holders promise.
    Unproven,
    /// The command line makes no sense.
    Usage,
    /// A setting is wrong: a profile, an address, a module, a key.
    Misconfigured,
    /// The input is no Twinlock file, or one of a newer version.
    NotAnEnvelope,
    /// The file was altered, or is of another key.
    Tampered,
    /// The file's end is missing.
    Truncated,
    /// The encryption context is not the expected one.
    WrongContext,
    /// The header is of an earlier generation than asked for.
    OldGeneration,
    /// A holder says no.
    Denied,
    /// There is no such key or token.
    KeyNotFound,
    /// The key is switched off.
    KeyDisabled,
    /// No keyslot names holders that were given.
    NoKeyslot,
    /// A holder is busy, throttled, gone or unreachable.
    Unavailable,
    /// A holder did not answer in time.
    TimedOut,
    /// A part of a batch failed.
    Partial,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// SIGHUP.
    HungUp,
    /// Whoever reads the output has had enough. This is no failure.
    BrokenPipe,
}

impl Kind {
    /// The process's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Failed | Self::Io | Self::NoSpace | Self::OutputExists | Self::Unproven => 1,
            Self::Usage | Self::Misconfigured | Self::NotAnEnvelope => 2,
            Self::Tampered | Self::Truncated | Self::WrongContext | Self::OldGeneration => 3,
            Self::Denied | Self::KeyNotFound | Self::KeyDisabled | Self::NoKeyslot => 4,
            Self::Unavailable | Self::TimedOut => 5,
            Self::Partial => 6,
            Self::HungUp => 128 + 1,
            Self::Interrupted => 128 + 2,
            Self::Terminated => 128 + 15,
        }
    }

    /// The word for it in `--json`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Io => "io",
            Self::NoSpace => "no-space",
            Self::OutputExists => "output-exists",
            Self::Unproven => "unproven",
            Self::Usage => "usage",
            Self::Misconfigured => "misconfigured",
            Self::NotAnEnvelope => "not-an-envelope",
            Self::Tampered => "tampered",
            Self::Truncated => "truncated",
            Self::WrongContext => "wrong-context",
            Self::OldGeneration => "old-generation",
            Self::Denied => "denied",
            Self::KeyNotFound => "key-not-found",
            Self::KeyDisabled => "key-disabled",
            Self::NoKeyslot => "no-keyslot",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed-out",
            Self::Partial => "partial",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
            Self::HungUp => "hung-up",
            Self::BrokenPipe => "broken-pipe",
        }
    }
}

/// Why a verb failed: what happened, to what, and what to do next.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(Kind::Misconfigured, message)
    }

    /// The same with what to do next, in place of any earlier advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the name of what it happened to in front.
    pub(crate) fn about(mut self, subject: impl Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// The same with the file's name in front if it is its content that is
    /// wrong. Errors of reading and writing have names already.
    pub(crate) fn about_content(self, name: &str) -> Self {
        match self.kind {
            Kind::Tampered | Kind::Truncated | Kind::NotAnEnvelope => self.about(name),
            _ => self,
        }
    }

    /// What went wrong with the file `path`.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::from(error).about(path.display())
    }
}

/// An error of the operating system, or of a payload inside it.
impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        if let Some(payload) = PayloadError::of(error) {
            return Self::from(*payload);
        }
        let failure = Self::new(kind_of_io(error.kind()), error.to_string());
        match failure.kind {
            Kind::OutputExists => failure.hint("choose another name with -o, or add --force"),
            Kind::NoSpace => failure.hint("make room, or choose another place with -o"),
            _ => failure,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

fn kind_of_io(kind: io::ErrorKind) -> Kind {
    match kind {
        io::ErrorKind::AlreadyExists => Kind::OutputExists,
        io::ErrorKind::BrokenPipe => Kind::BrokenPipe,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::NoSpace,
        _ => Kind::Io,
    }
}

impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        let kind = match error {
            PayloadError::Truncated { .. } => Kind::Truncated,
            PayloadError::Prefix(_) | PayloadError::SegmentLen(_) => Kind::NotAnEnvelope,
            _ => Kind::Tampered,
        };
        let failure = Self::new(kind, error.to_string());
        match kind {
            Kind::Truncated => {
                failure.hint("fetch the file again: its transfer may have broken off")
            }
            _ if matches!(error, PayloadError::OtherEnvelope { .. }) => {
                failure.hint("give the header that was written together with this payload")
            }
            _ if matches!(error, PayloadError::Prefix(_)) => {
                failure.hint("if the file has its own header, leave --header out")
            }
            Kind::Tampered => failure.hint(ANOTHER_COPY),
            _ => failure,
        }
    }
}

impl From<ReadHeaderError> for Failure {
    fn from(error: ReadHeaderError) -> Self {
        match error {
            ReadHeaderError::Io(error) => Self::from(error),
            ReadHeaderError::Header(error) => Self::from(error),
            ReadHeaderError::Trailing { .. } => Self::new(Kind::NotAnEnvelope, error.to_string())
                .hint("if it is a whole envelope, leave --header out"),
            error => Self::new(Kind::Failed, error.to_string()),
        }
    }
}

impl From<HeaderError> for Failure {
    fn from(error: HeaderError) -> Self {
        let kind = match error {
            // Whoever has read so little cannot know whether it is ours.
            HeaderError::Truncated { have, .. } if have < MAGIC_LEN => Kind::NotAnEnvelope,
            HeaderError::Truncated { .. } => Kind::Truncated,
            HeaderError::Malformed { .. } => Kind::Tampered,
            _ => Kind::NotAnEnvelope,
        };
        let failure = Self::new(kind, error.to_string());
        match error {
            HeaderError::Truncated { .. } if kind == Kind::NotAnEnvelope => {
                Self { message: HeaderError::NotTwinlock.to_string(), ..failure }
            }
            HeaderError::DetachedPayload => failure.hint("give its header with --header"),
            HeaderError::UnknownField { .. }
            | HeaderError::UnsupportedPayloadSuite(_)
            | HeaderError::UnsupportedVersion(_) => failure.hint("a newer twinlock may open it"),
            _ => failure,
        }
    }
}

/// Of the bytes `TWINLOCK` that every envelope begins with.
const MAGIC_LEN: usize = 8;

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let failure = Self::new(kind_of_open_error(&error), error.to_string());
        match &error {
            OpenError::UnexpectedContext { actual } => {
                let flags: Vec<String> = actual.iter().map(|(k, v)| context_flag(k, v)).collect();
                failure.hint(format!(
                    "if this is the file that you want, add {} (or --any-context, which accepts \
                     whatever file storage hands out)",
                    flags.join(" ")
                ))
            }
            OpenError::WrongContext { .. } => failure.hint(
                "storage may have handed out another file; `twinlock inspect` shows its context",
            ),
            OpenError::NoKeyslot { .. } => failure.hint(
                "name the keys that it wants with --provider and --customer, or choose a profile \
                 with --profile",
            ),
            OpenError::OldGeneration { .. } => {
                failure.hint("ask for the current version of the file, or lower --min-generation")
            }
            _ => match failure.kind {
                Kind::Unavailable | Kind::TimedOut => failure.hint("try again later"),
                Kind::Tampered => failure.hint(ANOTHER_COPY),
                _ => failure,
            },
        }
    }
}

const ANOTHER_COPY: &str = "fetch the file again, or use another copy of it";

fn kind_of_open_error(error: &OpenError) -> Kind {
    match error {
        OpenError::NoKeyslot { .. } => Kind::NoKeyslot,
        OpenError::OldGeneration { .. } => Kind::OldGeneration,
        OpenError::UnexpectedContext { .. } | OpenError::WrongContext { .. } => Kind::WrongContext,
        OpenError::Keyslots { failures } => kind_of_failures(failures, error.kind()),
        _ => kind_of_open_error_kind(error.kind()),
    }
}

/// The finer word for `overall`, from the holder that brought it about.
fn kind_of_failures(failures: &[FailedAttempt], overall: OpenErrorKind) -> Kind {
    let overall = kind_of_open_error_kind(overall);
    failures
        .iter()
        .flat_map(FailedAttempt::holder_errors)
        .map(|(_, _, error)| kind_of_holder_error(error.kind()))
        .find(|kind| kind.code() == overall.code())
        .unwrap_or(overall)
}

fn kind_of_open_error_kind(kind: OpenErrorKind) -> Kind {
    match kind {
        OpenErrorKind::NoAccess => Kind::Denied,
        OpenErrorKind::NotAuthentic => Kind::Tampered,
        OpenErrorKind::Unavailable => Kind::Unavailable,
        OpenErrorKind::Misconfigured => Kind::Misconfigured,
        _ => Kind::Failed,
    }
}

/// A `--context` flag as a shell takes it, with nothing in it that a terminal
/// obeys: the text is the word of whoever stored the file.
fn context_flag(key: &str, value: &str) -> String {
    let pair = twinlock::escape_untrusted(&format!("{key}={value}")).to_string();
    let plain = |c: char| c.is_alphanumeric() || "=/._-:@%+,".contains(c);
    match pair.chars().all(plain) {
        true => format!("--context {pair}"),
        false => format!("--context '{}'", pair.replace('\'', r"'\''")),
    }
}

impl From<HolderError> for Failure {
    fn from(error: HolderError) -> Self {
        let failure = Self::new(kind_of_holder_error(error.kind()), error.to_string());
        match failure.kind {
            Kind::Unavailable | Kind::TimedOut => failure.hint("try again later"),
            _ => failure,
        }
    }
}

fn kind_of_holder_error(kind: HolderErrorKind) -> Kind {
    match kind {
        HolderErrorKind::Denied => Kind::Denied,
        HolderErrorKind::Disabled => Kind::KeyDisabled,
        HolderErrorKind::InvalidCiphertext => Kind::Tampered,
        HolderErrorKind::Misconfigured => Kind::Misconfigured,
        HolderErrorKind::NotFound => Kind::KeyNotFound,
        HolderErrorKind::TimedOut => Kind::TimedOut,
        HolderErrorKind::Unavailable { .. } => Kind::Unavailable,
        _ => Kind::Failed,
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        let message = error.to_string();
        match error {
            // A holder that cannot unwrap what it has just wrapped was not
            // tampered with: it lacks a permission, or is broken.
            PrepareError::Holder { source, .. } => match kind_of_holder_error(source.kind()) {
                Kind::Tampered => Self::new(Kind::Failed, message),
                kind @ (Kind::Unavailable | Kind::TimedOut) => {
                    Self::new(kind, message).hint("try again later")
                }
                kind @ Kind::Denied => Self::new(kind, message)
                    .hint("a holder has to wrap and, unless --no-read-back is given, to unwrap"),
                kind => Self::new(kind, message),
            },
            PrepareError::Alias(_)
            | PrepareError::Backend(_)
            | PrepareError::SameKey { .. }
            | PrepareError::SegmentLen(_) => Self::misconfigured(message),
            PrepareError::Header(_) | PrepareError::HeaderTooLarge(_) => Self::usage(message),
            _ => Self::new(Kind::Failed, message),
        }
    }
}

impl From<RewrapFileError> for Failure {
    fn from(error: RewrapFileError) -> Self {
        let message = error.to_string();
        match error {
            RewrapFileError::Busy => Self::new(Kind::Unavailable, message).hint("try again later"),
            RewrapFileError::Header(error) => Self::from(error),
            RewrapFileError::Io(error) => Self::from(error),
            RewrapFileError::OtherNames { .. } => {
                Self::new(Kind::Failed, message).hint("change a copy, and let the other names go")
            }
            RewrapFileError::Payload(error) => Self::from(error),
            RewrapFileError::Rewrap(error) => Self::from(error),
            RewrapFileError::Trailing { offset } => {
                Self::from(ReadHeaderError::Trailing { offset })
            }
            _ => Self::new(Kind::Failed, message),
        }
    }
}

impl From<ReencryptFileError> for Failure {
    fn from(error: ReencryptFileError) -> Self {
        let message = error.to_string();
        match error {
            ReencryptFileError::Busy => {
                Self::new(Kind::Unavailable, message).hint("try again later")
            }
            ReencryptFileError::Decrypt(error) => Self::from(error),
            ReencryptFileError::Io(error) => Self::from(error),
            ReencryptFileError::OtherNames { .. } => {
                Self::new(Kind::Failed, message).hint("write a new file with -o")
            }
            ReencryptFileError::Prepare(error) => Self::from(*error),
            _ => Self::new(Kind::Failed, message),
        }
    }
}

impl From<DecryptError> for Failure {
    fn from(error: DecryptError) -> Self {
        match error {
            DecryptError::Header(error) => Self::from(error),
            DecryptError::Io(error) => Self::from(error),
            DecryptError::Open(error) => Self::from(error),
            DecryptError::Payload(error) => Self::from(error),
            error => Self::new(Kind::Failed, error.to_string()),
        }
    }
}

impl From<RewrapError> for Failure {
    fn from(error: RewrapError) -> Self {
        let message = error.to_string();
        match error {
            RewrapError::Open(error) => Self::from(error),
            RewrapError::Prepare(error) => Self::from(*error),
            RewrapError::Ambiguous { .. } => {
                Self::usage(message).hint("name a key of that keyslot with --from-key")
            }
            RewrapError::NoHolder { side, .. } => Self::usage(message)
                .hint(format!("name it with --{side}, or a new one with --to-{side}")),
            RewrapError::NoneOpens | RewrapError::Unopened { .. } => Self::usage(message).hint(
                "name its keys with --keyslot, so that it can be tried; --remove-unopened does \
                 without, as after the loss of a key",
            ),
            _ => Self::usage(message),
        }
    }
}

impl From<KeyUriError> for Failure {
    fn from(error: KeyUriError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<WrongSide> for Failure {
    fn from(error: WrongSide) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self::usage(error.to_string())
    }
}

#[cfg(test)]
mod tests;
