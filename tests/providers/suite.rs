//! The tests that all holders pass.

use std::io::{self, Write as _};
use std::time::Duration;

use twinlock_keys::{
    HolderError, HolderErrorKind as Kind, Share, ShareAlgorithm, Side, WrapContext, WrappedShare,
};

use super::bench::{Bench, Holder, Trouble};
use crate::support::base64;
use crate::support::proxy::Trap;

/// All tests, on the holders of one bench.
macro_rules! every_holder {
    ($bench:ty) => {
        $crate::providers::suite::tests_of! { $bench:
            a_ciphertext_of_another_key_is_refused
            a_share_comes_back
            another_context_is_refused
            another_pair_is_refused
            bad_credentials
            clock_skew
            denied
            disabled
            down
            foreign_ciphertext_is_refused
            hangs_up
            internal_error
            no_credentials
            not_found
            not_the_service
            one_of_another_algorithm_is_refused
            redirects_are_not_followed
            slow
            throttled
            untrusted_server
            what_cannot_be_has_a_reason
        }
    };
}
macro_rules! tests_of {
    ($bench:ty: $($test:ident)*) => { $(
        #[test]
        fn $test() {
            let name = concat!(module_path!(), "::", stringify!($test));
            let test = $crate::providers::suite::$test::<$bench>();
            <$bench as $crate::providers::bench::Bench>::run(name, test);
        }
    )* };
}
pub(super) use {every_holder, tests_of};

pub(super) async fn a_share_comes_back<B: Bench>() {
    let bench = B::new().await;
    let holder = bench.holder().await;
    for share in [Share::random().unwrap(), Share::copy_of(&[0; 32]), Share::copy_of(&[255; 32])] {
        let wrapped = holder.wrap_key(&share, &context()).await.unwrap();
        assert!((1..=6144).contains(&wrapped.bytes().len()), "a header has room for it");
        let version = wrapped.key_version().unwrap_or("1");
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        assert!((1..=64).contains(&version.len()) && version.bytes().all(fits), "{version}");
        let opened = holder.unwrap_key(&wrapped, &context()).await.unwrap();
        assert_eq!(opened.expose(), share.expose());
    }
}

pub(super) async fn another_context_is_refused<B: Bench>() {
    let pairs = [("object", "2026/report.pdf"), ("tenant", "red")];
    refused_in::<B>(&context_of(1, 1, &pairs)).await;
}

pub(super) async fn another_pair_is_refused<B: Bench>() {
    refused_in::<B>(&context_of(2, 2, PAIRS)).await;
}

async fn refused_in<B: Bench>(context_of_another: &WrapContext) {
    let bench = B::new().await;
    let holder = bench.holder().await;
    let (share, wrapped) = wrapped(&holder).await;
    match holder.unwrap_key(&wrapped, context_of_another).await {
        Err(error) => assert_eq!(error.kind(), Kind::InvalidCiphertext, "{error}"),
        // What has no AAD leaves it to the check that every share carries.
        Ok(opened) => {
            assert_ne!(wrapped.algorithm(), ShareAlgorithm::HolderAead, "an AEAD binds");
            assert_eq!(opened.expose(), share.expose());
        }
    }
}

pub(super) async fn foreign_ciphertext_is_refused<B: Bench>() {
    let bench = B::new().await;
    let holder = bench.holder().await;
    let (_, good) = wrapped(&holder).await;
    for bytes in damaged(good.bytes()) {
        let foreign = WrappedShare::new(good.algorithm(), bytes);
        let foreign = match good.key_version() {
            Some(version) => foreign.with_key_version(version),
            None => foreign,
        };
        let result = holder.unwrap_key(&foreign, &context()).await;
        let error = refusal(result, &format!("{} bytes", foreign.bytes().len()));
        assert_eq!(error.kind(), Kind::InvalidCiphertext, "{error}: {:?}", foreign.bytes());
    }
}

/// What hostile storage may make of a wrapped share.
fn damaged(good: &[u8]) -> Vec<Vec<u8>> {
    let mut altered = good.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let mut in_front = good.to_vec();
    in_front[0] ^= 1;
    let longer = [good, &[0]].concat();
    vec![
        Vec::new(),
        good[..1].to_vec(),
        good[..good.len() / 2].to_vec(),
        good[..good.len() - 1].to_vec(),
        altered,
        in_front,
        longer,
        vec![0; good.len()],
        vec![0xff; good.len()],
        vec![b'A'; good.len()],
        vec![b'A'; 6144],
        vec![0; 6145],
        b"vault:v1:".to_vec(),
        b"{\"plaintext\":\"\"}\r\n\r\n".to_vec(),
    ]
}

pub(super) async fn a_ciphertext_of_another_key_is_refused<B: Bench>() {
    let bench = B::new().await;
    let (holder, stranger) = (bench.holder().await, bench.stranger().await);
    assert!(!holder.uri().same_key(stranger.uri()));
    let (_, theirs) = wrapped(&stranger).await;
    let error = refusal(holder.unwrap_key(&theirs, &context()).await, "another key's");
    assert_eq!(error.kind(), Kind::InvalidCiphertext, "{error}");
}

pub(super) async fn one_of_another_algorithm_is_refused<B: Bench>() {
    let bench = B::new().await;
    let holder = bench.holder().await;
    let (_, good) = wrapped(&holder).await;
    let algorithms =
        [ShareAlgorithm::HolderAead, ShareAlgorithm::RsaOaepSha256, ShareAlgorithm::AesKw];
    for algorithm in algorithms.into_iter().filter(|&other| other != good.algorithm()) {
        let other = WrappedShare::new(algorithm, good.bytes().to_vec());
        let error = refusal(holder.unwrap_key(&other, &context()).await, "another algorithm");
        assert_eq!(error.kind(), Kind::InvalidCiphertext, "{algorithm:?}: {error}");
    }
}

pub(super) async fn bad_credentials<B: Bench>() {
    refused_as::<B>(Trouble::BadCredentials).await;
}

pub(super) async fn clock_skew<B: Bench>() {
    refused_as::<B>(Trouble::ClockSkew).await;
}

pub(super) async fn denied<B: Bench>() {
    refused_as::<B>(Trouble::Denied).await;
}

pub(super) async fn disabled<B: Bench>() {
    refused_as::<B>(Trouble::Disabled).await;
}

pub(super) async fn down<B: Bench>() {
    refused_as::<B>(Trouble::Down).await;
}

pub(super) async fn hangs_up<B: Bench>() {
    refused_until_it_ends::<B>(Trouble::HangsUp).await;
}

pub(super) async fn internal_error<B: Bench>() {
    refused_until_it_ends::<B>(Trouble::InternalError).await;
}

pub(super) async fn no_credentials<B: Bench>() {
    refused_as::<B>(Trouble::NoCredentials).await;
}

pub(super) async fn not_the_service<B: Bench>() {
    refused_until_it_ends::<B>(Trouble::NotTheService).await;
}

pub(super) async fn not_found<B: Bench>() {
    refused_as::<B>(Trouble::NotFound).await;
}

pub(super) async fn slow<B: Bench>() {
    refused_until_it_ends::<B>(Trouble::Slow).await;
}

pub(super) async fn throttled<B: Bench>() {
    refused_until_it_ends::<B>(Trouble::Throttled).await;
}

pub(super) async fn untrusted_server<B: Bench>() {
    refused_as::<B>(Trouble::UntrustedServer).await;
}

pub(super) async fn redirects_are_not_followed<B: Bench>() {
    let trap = Trap::new();
    refused_as::<B>(Trouble::Redirected(trap.address)).await;
    assert_eq!(trap.arrivals(), 0);
}

/// Each kind of trouble gives the same kind of error with every holder.
async fn refused_as<B: Bench>(trouble: Trouble) {
    Troubled::<B>::new(trouble).await;
}

/// The same for trouble that passes: then the holder works, and nobody has
/// started anything anew.
async fn refused_until_it_ends<B: Bench>(trouble: Trouble) {
    let Some(Troubled { bench, holder: Some(holder), share, wrapped }) =
        Troubled::<B>::new(trouble).await
    else {
        return;
    };
    bench.heal();
    let result = holder.unwrap_key(&wrapped, &context()).await;
    let opened = result.expect("it works again when nothing is wrong");
    assert_eq!(opened.expose(), share.expose());
}

struct Troubled<B> {
    bench: B,
    /// None if it could not even be made.
    holder: Option<Holder>,
    share: Share,
    wrapped: WrappedShare,
}

impl<B: Bench> Troubled<B> {
    /// Has a holder meet `trouble`, wrapping and unwrapping; `None` if it
    /// cannot.
    async fn new(trouble: Trouble) -> Option<Self> {
        if trouble.never_of::<B>().is_some() {
            return None;
        }
        let bench = B::new().await;
        let (share, wrapped) = wrapped(&bench.holder().await).await;
        let holder = match within_bounds(bench.in_trouble(trouble)).await {
            Ok(holder) => Some(holder),
            Err(error) => {
                assert_eq!(error.kind(), trouble.kind(), "{error}");
                None
            }
        };
        if let Some(holder) = &holder {
            let result = within_bounds(holder.unwrap_key(&wrapped, &context())).await;
            assert_as_expected(trouble, &refusal(result, "unwrapping"), &share);
            let result = within_bounds(holder.wrap_key(&share, &context())).await;
            assert_as_expected(trouble, &refusal(result, "wrapping"), &share);
        }
        Some(Self { bench, holder, share, wrapped })
    }
}

fn assert_as_expected(trouble: Trouble, error: &HolderError, share: &Share) {
    assert_eq!(error.kind(), trouble.kind(), "{error}");
    assert!(!trouble.is_said() || error.answer().is_some(), "the service's own words: {error}");
    let text = format!("{error} {error:?}");
    assert!(!text.contains(&hex::encode(share.expose())), "a share in hexadecimal");
    assert!(!text.contains(&base64(share.expose())), "a share in base64");
}

/// Far longer than any deadline here and far shorter than any server that
/// hangs: what takes this long does not keep to its deadline.
async fn within_bounds<T>(work: impl Future<Output = T>) -> T {
    let bound = Duration::from_secs(120);
    tokio::time::timeout(bound, work).await.expect("it keeps to its deadline")
}

/// And is told, past the test harness: those tests passed without a try.
pub(super) async fn what_cannot_be_has_a_reason<B: Bench>() {
    let mut told = String::new();
    for (number, (trouble, reason)) in B::NEVER.iter().enumerate() {
        assert!(reason.len() > 10, "{trouble:?}: {reason}");
        assert!(B::NEVER[..number].iter().all(|(other, _)| other != trouble), "{trouble:?}: twice");
        told += &format!("{}: no {trouble:?}: {reason}\n", std::any::type_name::<B>());
    }
    io::stderr().write_all(told.as_bytes()).unwrap();
}

// === What the tests share ===

pub(super) const PAIRS: &[(&str, &str)] = &[("object", "2026/report.pdf"), ("tenant", "blue")];

pub(super) fn context() -> WrapContext {
    context_of(1, 1, PAIRS)
}

/// The AAD of a real share depends on pair and context, so give another for
/// each.
pub(super) fn context_of(pair: u8, aad: u8, pairs: &[(&str, &str)]) -> WrapContext {
    let label = format!("v1/provider/{}", hex::encode([pair; 32]));
    let owned = pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
    let differs = u8::from(pairs != PAIRS);
    WrapContext::new(Side::Provider, label, vec![aad + 16 * differs; 66], owned.collect())
}

/// A share that `holder` wrapped, and what it was.
pub(super) async fn wrapped(holder: &Holder) -> (Share, WrappedShare) {
    let share = Share::random().unwrap();
    let wrapped = holder.wrap_key(&share, &context()).await.unwrap();
    (share, wrapped)
}

/// The error of a result whose success cannot be printed.
#[track_caller]
pub(super) fn refusal<T>(result: Result<T, HolderError>, what: &str) -> HolderError {
    result.err().unwrap_or_else(|| panic!("{what} is not refused"))
}
