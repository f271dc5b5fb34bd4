//! A provider under test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use twinlock_keys::{HolderError, HolderErrorKind as Kind, KeyHolder};

/// A holder of any kind, as applications have it.
pub(super) type Holder = Arc<dyn KeyHolder>;

/// A key at its provider, and the power to make trouble between them and us.
pub(super) trait Bench: Sized {
    /// What this provider cannot run into, each with the reason why.
    const NEVER: &'static [(Trouble, &'static str)];

    /// Runs the test `name`. Who needs a process for it starts one here.
    fn run(name: &str, test: impl Future<Output = ()>) {
        let _ = name;
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    /// A new key at its provider.
    async fn new() -> Self;

    /// A holder of the key. Nothing is wrong with it unless there is trouble.
    async fn holder(&self) -> Holder;

    /// A holder of another key at the same provider.
    async fn stranger(&self) -> Holder;

    /// Makes trouble, and gives a holder of the key that meets it: from its
    /// first call on or when it is made.
    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError>;

    /// Puts an end to what can end by itself: holders that were made before or
    /// meanwhile work again.
    fn heal(&self);
}

/// What can come between a holder and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The provider does not know the caller: a wrong token, an expired one.
    BadCredentials,
    /// Our clock is wrong, so that the provider does not believe us.
    ClockSkew,
    /// The provider knows the caller and says no.
    Denied,
    /// The key is switched off.
    Disabled,
    /// Nobody listens.
    Down,
    /// Every call is cut off without an answer.
    HangsUp,
    /// The service itself fails with status 500.
    InternalError,
    /// No credentials are to be found on this machine.
    NoCredentials,
    /// Something answers that is not the service.
    NotTheService,
    /// There is no such key.
    NotFound,
    /// Every call is sent on to this address, with status 307.
    Redirected(SocketAddr),
    /// No answer comes, for far longer than [`SHORT_DEADLINE`], which the
    /// holder has.
    Slow,
    /// The provider wants to be left alone for [`RETRY_AFTER`], and says so.
    Throttled,
    /// The server's certificate is of an authority that we do not trust.
    UntrustedServer,
}

/// The deadline of a holder that meets [`Trouble::Slow`].
pub(super) const SHORT_DEADLINE: Duration = Duration::from_millis(700);

/// What a server that throttles says in `Retry-After`.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(7);

/// In a list of troubles, where any address will do.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Trouble {
    /// How every holder puts it.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::BadCredentials | Self::ClockSkew | Self::Denied => Kind::Denied,
            Self::Disabled => Kind::Disabled,
            Self::Down | Self::HangsUp | Self::InternalError => {
                Kind::Unavailable { retry_after: None }
            }
            Self::NoCredentials | Self::UntrustedServer => Kind::Misconfigured,
            Self::NotFound => Kind::NotFound,
            Self::NotTheService | Self::Redirected(_) => Kind::Failed,
            Self::Slow => Kind::TimedOut,
            Self::Throttled => Kind::Unavailable { retry_after: Some(RETRY_AFTER) },
        }
    }

    /// True if the service itself says it, so that its words are evidence.
    pub(super) fn is_said(self) -> bool {
        matches!(
            self,
            Self::BadCredentials
                | Self::ClockSkew
                | Self::Denied
                | Self::Disabled
                | Self::InternalError
                | Self::NotFound
                | Self::Throttled
        )
    }

    /// Why `B` cannot run into it, if so.
    pub(super) fn never_of<B: Bench>(self) -> Option<&'static str> {
        let same = |other: &Self| std::mem::discriminant(other) == std::mem::discriminant(&self);
        B::NEVER.iter().find(|(trouble, _)| same(trouble)).map(|&(_, reason)| reason)
    }
}
