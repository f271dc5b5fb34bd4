//! Our clock, compared with that of whoever answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_kms::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use aws_sdk_kms::primitives::{DateTime, DateTimeFormat};

/// Looks at the `Date` of each answer (RFC 9110 section 6.6.1).
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    ahead_seconds: Arc<Mutex<Option<i64>>>,
}

impl Clock {
    /// How far ours is ahead, by the last answer that had a date.
    pub(super) fn ahead_seconds(&self) -> Option<i64> {
        *self.ahead_seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(ahead) = date.and_then(|date| ahead_of(date, now()?)) {
            *self.ahead_seconds.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
        Ok(())
    }
}

fn ahead_of(date: &str, now: i64) -> Option<i64> {
    let theirs = DateTime::from_str(date, DateTimeFormat::HttpDate).ok()?;
    now.checked_sub(theirs.secs())
}

fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_compared_and_nonsense_is_not() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT"; // RFC 9110 section 5.6.7: 784111777
        assert_eq!(ahead_of(date, 784_111_777 + 400), Some(400));
        assert_eq!(ahead_of(date, 784_111_777 - 1), Some(-1));
        for odd in ["", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT", "784111777"] {
            assert_eq!(ahead_of(odd, 0), None, "{odd}");
        }
    }
}
