//! `aws-kms://`: a key ARN, or an alias that only AWS can resolve.

use super::{KeyUriError, Scheme, malformed};

const KEY_PREFIX: &str = "key/";
const ALIAS_PREFIX: &str = "alias/";

pub(super) fn canonical(rest: &str) -> Result<String, KeyUriError> {
    if let Some(name) = rest.strip_prefix(ALIAS_PREFIX) {
        check_alias(name)?;
    } else {
        let arn = Arn::parse(rest)?;
        match arn.resource.strip_prefix(ALIAS_PREFIX) {
            Some(name) => check_alias(name)?,
            None => check_key(arn.resource)?,
        }
    }
    Ok(rest.to_owned())
}

pub(super) fn is_alias(rest: &str) -> bool {
    rest.starts_with(ALIAS_PREFIX)
        || Arn::parse(rest).is_ok_and(|arn| arn.resource.starts_with(ALIAS_PREFIX))
}

/// A multi-Region key has one id, which begins with `mrk-`, in all its regions.
pub(super) fn same_multi_region_key(a: &str, b: &str) -> bool {
    let (Ok(a), Ok(b)) = (Arn::parse(a), Arn::parse(b)) else {
        return false;
    };
    a.resource.starts_with("key/mrk-")
        && (a.partition, a.account, a.resource) == (b.partition, b.account, b.resource)
}

/// `arn:<partition>:kms:<region>:<account>:<resource>`
struct Arn<'a> {
    partition: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    fn parse(text: &'a str) -> Result<Self, KeyUriError> {
        let mut parts = text.splitn(6, ':');
        let mut part = || parts.next().unwrap_or_default();
        let (arn, partition, service, region) = (part(), part(), part(), part());
        let (account, resource) = (part(), part());
        if (arn, service) != ("arn", "kms") {
            return Err(bad("expected arn:<partition>:kms:<region>:<account>:key/<id>"));
        }
        if !is_word(partition) || !is_word(region) {
            return Err(bad("the partition and region are lower-case letters, digits and hyphens"));
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("the account is 12 digits"));
        }
        Ok(Self { partition, account, resource })
    }
}

fn check_key(resource: &str) -> Result<(), KeyUriError> {
    let id =
        resource.strip_prefix(KEY_PREFIX).ok_or(bad("the resource is key/<id> or alias/<name>"))?;
    if is_word(id) {
        Ok(())
    } else {
        Err(bad("a key id is lower-case letters, digits and hyphens"))
    }
}

fn check_alias(name: &str) -> Result<(), KeyUriError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
    if name.is_empty() || name.len() > 250 || !name.bytes().all(allowed) {
        return Err(bad("an alias is 1 to 250 letters, digits, '/', '_' and '-'"));
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 128 && text.bytes().all(allowed)
}

fn bad(problem: &'static str) -> KeyUriError {
    malformed(Scheme::AwsKms, problem)
}
