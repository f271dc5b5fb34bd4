//! One key on several tokens.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::aead_key::Input;
use crate::deadline::Timer;
use crate::{AeadKey, Done, ErrorKind, Pkcs11Error, RsaKey, Sealed, Token, TokenState};

/// The same AES-256 key ([`AeadKey`]) or RSA key ([`RsaKey`]) on several tokens, in
/// the order in which they are asked. Clones are cheap.
///
/// - **Failover.** When a token fails (it is gone, answers in no time, has too
///   much to do, has lost its login or the key), the next is asked, within the
///   same deadline. What a token says about the call itself is the answer: bad
///   ciphertext, a use that the key is not for. No token is asked again.
/// - **Hedging.** When a token has not answered for
///   [`FleetOptions::hedge_after`], the next is asked beside it, and the first
///   good answer counts. A call may so be done twice, which does no harm: IVs
///   are random.
/// - **Breakers.** Each token has its own
///   ([`with_breaker`](crate::TokenOptions::with_breaker)). While it is open the
///   token costs no time; the calls that find out whether the token works again
///   are made beside others, so that nobody waits for them.
/// - **Missing keys.** The key counts as missing when every token was asked and
///   none has it; while one of them fails, that is the answer.
///
/// That the keys are the same is for whoever replicates them: a token with
/// another one answers with [`ErrorKind::BadCiphertext`].
pub struct Fleet<K = AeadKey> {
    members: Arc<[K]>,
    options: FleetOptions,
}

/// How to use several tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct FleetOptions {
    /// After which time without an answer the next token is asked, too. `None`:
    /// only when one has failed, so that a token that hangs takes up the whole
    /// deadline until its breaker opens.
    pub hedge_after: Option<Duration>,
}

impl<K> Fleet<K> {
    /// The key on each of `members`' tokens, the one to be asked first first.
    ///
    /// # Errors
    /// Without members.
    pub fn new(members: Vec<K>, options: FleetOptions) -> Result<Self, Pkcs11Error> {
        match members.is_empty() {
            true => Err(Pkcs11Error::misconfigured("a key needs one token at least")),
            false => Ok(Self { members: members.into(), options }),
        }
    }

    /// The key on each token, in order. Health checks ask each by itself.
    #[must_use]
    pub fn members(&self) -> &[K] {
        &self.members
    }
}

impl Fleet<RsaKey> {
    /// As [`RsaKey::decrypt`].
    pub async fn decrypt(&self, ciphertext: Vec<u8>, within: Duration) -> Done<Zeroizing<Vec<u8>>> {
        let ciphertext = Arc::new(ciphertext);
        ask_in_turn(self, within, |key, within| key.decrypt_shared(Arc::clone(&ciphertext), within))
            .await
    }
}

impl Fleet<AeadKey> {
    /// How each token is now, in order.
    #[must_use]
    pub fn states(&self) -> Vec<TokenState> {
        self.members.iter().map(|key| key.token().state()).collect()
    }

    /// As [`AeadKey::encrypt`].
    pub async fn encrypt(
        &self,
        data: Zeroizing<Vec<u8>>,
        aad: Vec<u8>,
        within: Duration,
    ) -> Done<Sealed> {
        let input = Input::new(data, aad);
        ask_in_turn(self, within, |key, within| key.encrypt_shared(Arc::clone(&input), within))
            .await
    }

    /// As [`AeadKey::encrypt_checked`]; several tokens may call `between`, each
    /// with what it made.
    pub async fn encrypt_checked<R: Send + 'static>(
        &self,
        data: Zeroizing<Vec<u8>>,
        aad: Vec<u8>,
        within: Duration,
        between: impl Fn(&Sealed) -> R + Send + Sync + 'static,
    ) -> Done<(Sealed, R)> {
        let (input, between) = (Input::new(data, aad), Arc::new(between));
        let ask = |key: &'_ AeadKey, within| {
            let (key, input, between) = (key.clone(), Arc::clone(&input), Arc::clone(&between));
            async move { key.encrypt_checked_shared(input, within, move |sealed| between(sealed)).await }
        };
        ask_in_turn(self, within, ask).await
    }

    /// As [`AeadKey::decrypt`].
    pub async fn decrypt(
        &self,
        sealed: Sealed,
        aad: Vec<u8>,
        within: Duration,
    ) -> Done<Zeroizing<Vec<u8>>> {
        let input = Arc::new((sealed, aad));
        ask_in_turn(self, within, |key, within| key.decrypt_shared(Arc::clone(&input), within))
            .await
    }
}

/// Asks the members of `fleet`, as many as it takes.
async fn ask_in_turn<'a, K: OnToken, T, F: Future<Output = Done<T>>>(
    fleet: &'a Fleet<K>,
    within: Duration,
    ask: impl Fn(&'a K, Duration) -> F,
) -> Done<T> {
    if let [only] = &*fleet.members {
        return ask(only, within).await; // nothing to choose
    }
    let mut race = Race {
        members: fleet.members.iter().enumerate(),
        ask,
        until: Instant::now() + within.min(crate::token::LONGEST),
        hedge_after: fleet.options.hedge_after,
        hedge: None,
        running: Vec::with_capacity(2),
        failure: None,
    };
    race.start();
    loop {
        match poll_fn(|context| race.poll(context)).await {
            Event::Slow => race.start(),
            Event::Over(done) => return done,
        }
    }
}

/// A key that is on a token.
trait OnToken {
    fn on_token(&self) -> &Token;
}

impl OnToken for AeadKey {
    fn on_token(&self) -> &Token {
        self.token()
    }
}

impl OnToken for RsaKey {
    fn on_token(&self) -> &Token {
        self.token()
    }
}

impl<K> Clone for Fleet<K> {
    fn clone(&self) -> Self {
        Self { members: Arc::clone(&self.members), options: self.options }
    }
}

impl<K: fmt::Debug> fmt::Debug for Fleet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("members", &self.members)
            .field("options", &self.options)
            .finish()
    }
}

/// One call on its way through the members.
struct Race<'a, K, T, F, A> {
    /// Those that were not asked yet.
    members: std::iter::Enumerate<std::slice::Iter<'a, K>>,
    ask: A,
    until: Instant,
    hedge_after: Option<Duration>,
    hedge: Option<Timer>,
    running: Vec<(usize, Pin<Box<F>>)>,
    /// What is reported if nobody has an answer.
    failure: Option<Done<T>>,
}

enum Event<T> {
    /// Nobody has answered for a while.
    Slow,
    Over(Done<T>),
}

impl<'a, K, T, F, A> Race<'a, K, T, F, A>
where
    K: OnToken,
    F: Future<Output = Done<T>>,
    A: Fn(&'a K, Duration) -> F,
{
    /// Asks the next member. One whose breaker is not closed refuses, or finds
    /// out whether its token works again: nobody should wait for that.
    fn start(&mut self) {
        self.hedge = None;
        let now = Instant::now();
        let left = self.until.saturating_duration_since(now);
        if left.is_zero() {
            return;
        }
        for (member, key) in self.members.by_ref() {
            self.running.push((member, Box::pin((self.ask)(key, left))));
            if key.on_token().is_trusted() {
                break;
            }
        }
        if let Some(after) = self.hedge_after.filter(|_| self.members.len() > 0) {
            self.hedge = Timer::at(now + after.min(left)).ok();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event<T>> {
        while let Some(done) = self.answered(context) {
            if !is_failure_of_token(&done.result) {
                return Poll::Ready(Event::Over(done));
            }
            self.remember(done);
            if self.running.is_empty() {
                self.start(); // and it is polled in the next round
            }
            if self.running.is_empty() {
                return Poll::Ready(Event::Over(self.failure.take().expect("remembered above")));
            }
        }
        match &mut self.hedge {
            Some(hedge) => Pin::new(hedge).poll(context).map(|()| Event::Slow),
            None => Poll::Pending,
        }
    }

    /// The next answer that is there by now.
    fn answered(&mut self, context: &mut Context<'_>) -> Option<Done<T>> {
        for place in 0..self.running.len() {
            let (member, call) = &mut self.running[place];
            let member = *member;
            if let Poll::Ready(done) = call.as_mut().poll(context) {
                drop(self.running.remove(place));
                return Some(done.by(member));
            }
        }
        None
    }

    /// The first failure counts, but a missing key only if nothing else is wrong.
    fn remember(&mut self, done: Done<T>) {
        let is_missing = |done: &Done<T>| {
            done.result.as_ref().err().map(Pkcs11Error::kind) == Some(ErrorKind::NotFound)
        };
        if self.failure.as_ref().is_none_or(is_missing) {
            self.failure = Some(done);
        }
    }
}

/// True if another token may do what this one could not.
fn is_failure_of_token<T>(result: &Result<T, Pkcs11Error>) -> bool {
    let Err(error) = result else { return false };
    match error.kind() {
        ErrorKind::Busy | ErrorKind::Gone | ErrorKind::NotFound | ErrorKind::TimedOut => true,
        ErrorKind::Denied => error.is_about_login(),
        _ => error.blames_device(),
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;
    use cryptoki::error::{Error, RvError};

    use super::*;

    fn is_failure(code: RvError, function: Function) -> bool {
        let error = Pkcs11Error::of_call(Error::Pkcs11(code, function), "do it");
        is_failure_of_token(&Err::<(), _>(error))
    }

    #[test]
    fn a_fleet_has_members() {
        assert!(Fleet::<AeadKey>::new(Vec::new(), FleetOptions::default()).is_err());
    }

    #[test]
    fn what_another_token_may_do_better_is_a_failure_of_this_one() {
        for code in [
            RvError::DeviceRemoved,
            RvError::DeviceError,
            RvError::DeviceMemory,
            RvError::SessionClosed,
            RvError::UserNotLoggedIn,
            RvError::KeyHandleInvalid,
            RvError::GeneralError,
            RvError::FipsSelfTestFailed,
        ] {
            assert!(is_failure(code, Function::EncryptInit), "{code:?}");
        }
        for code in [RvError::PinIncorrect, RvError::PinLocked, RvError::PinExpired] {
            assert!(is_failure(code, Function::Login), "{code:?}");
        }
        let kinds = [ErrorKind::Busy, ErrorKind::Gone, ErrorKind::NotFound, ErrorKind::TimedOut];
        for kind in kinds {
            assert!(is_failure_of_token(&Err::<(), _>(Pkcs11Error::new(kind, ""))), "{kind:?}");
        }
    }

    #[test]
    fn what_every_token_would_say_is_the_answer() {
        for code in [
            RvError::EncryptedDataInvalid,
            RvError::EncryptedDataLenRange,
            RvError::FunctionRejected,
            RvError::ActionProhibited,
            RvError::KeyFunctionNotPermitted,
            RvError::MechanismInvalid,
            RvError::GeneralError, // a bad tag of some token that nobody knows
        ] {
            assert!(!is_failure(code, Function::Decrypt), "{code:?}");
        }
        assert!(!is_failure_of_token(&Ok(())));
    }
}
