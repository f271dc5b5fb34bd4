use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::aad::{self, Aad};
use crate::ciphertext_metadata::CiphertextMetadata;
use crate::error::{ErrorName, XksError};

/// The most bytes of plaintext or ciphertext that a request may have.
pub const MAX_DATA_LEN: usize = 4300;

/// The longest ARN, in characters.
const MAX_ARN_LEN: usize = 2048;

/// Who asks, and through what. It is logged and a policy may decide by it; KMS
/// alone vouches for it, so nothing of it is checked but its presence and the
/// length of ARNs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMetadata<'a> {
    /// The principal who called KMS: an ARN, a service's name, `AWS Internal`.
    /// Always there but for health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_principal_arn: Option<Cow<'a, str>>,
    /// The VPC that KMS was called from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_source_vpc: Option<Cow<'a, str>>,
    /// The VPC endpoint that KMS was called from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_source_vpce: Option<Cow<'a, str>>,
    /// The KMS key. Always there on Encrypt and Decrypt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_arn: Option<Cow<'a, str>>,
    /// The operation of KMS that led to this request: any text.
    pub kms_operation: Cow<'a, str>,
    /// The request's number in AWS CloudTrail: any text.
    pub kms_request_id: Cow<'a, str>,
    /// The AWS service that called KMS for somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_via_service: Option<Cow<'a, str>>,
}

/// `Encrypt`. `Debug` prints lengths in the place of data.
pub struct EncryptRequest<'a> {
    /// Who asks; the principal and the KMS key are there.
    pub metadata: RequestMetadata<'a>,
    /// At most 4300 bytes.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The caller's AAD.
    pub aad: Aad,
    /// KMS wants a CDIV: see [`crate::integrity`].
    pub wants_integrity_value: bool,
}

/// `Decrypt`. `Debug` prints lengths in the place of data.
pub struct DecryptRequest<'a> {
    /// Who asks; the principal and the KMS key are there.
    pub metadata: RequestMetadata<'a>,
    /// At most 4300 bytes.
    pub ciphertext: Vec<u8>,
    /// What Encrypt returned beside the ciphertext, perhaps nothing.
    pub ciphertext_metadata: CiphertextMetadata,
    /// The caller's AAD.
    pub aad: Aad,
    /// 12 or 16 bytes.
    pub iv: Vec<u8>,
    /// The GCM tag.
    pub tag: [u8; 16],
}

impl<'a> EncryptRequest<'a> {
    /// Reads the body of an Encrypt.
    ///
    /// # Errors
    /// `UnsupportedOperationException` when something is larger than the
    /// specification asks a proxy to take, else `ValidationException`.
    pub fn parse(body: &'a [u8]) -> Result<Self, XksError> {
        let raw: RawEncrypt<'a> = read(body)?;
        let metadata = RequestMetadata::of_key_operation(raw.request_metadata)?;
        check_algorithm(raw.encryption_algorithm)?;
        Ok(Self {
            metadata,
            plaintext: plaintext(raw.plaintext)?,
            aad: read_aad(raw.additional_authenticated_data, ErrorName::Validation)?,
            wants_integrity_value: wants_cdiv(raw.ciphertext_data_integrity_value_algorithm)?,
        })
    }
}

impl<'a> DecryptRequest<'a> {
    /// Reads the body of a Decrypt.
    ///
    /// # Errors
    /// `InvalidCiphertextException` when what Encrypt returned is incomplete or
    /// cannot have come from it, `UnsupportedOperationException` when it is larger
    /// than the specification asks a proxy to take, else `ValidationException`.
    pub fn parse(body: &'a [u8]) -> Result<Self, XksError> {
        let raw: RawDecrypt<'a> = read(body)?;
        let metadata = RequestMetadata::of_key_operation(raw.request_metadata)?;
        check_algorithm(raw.encryption_algorithm)?;
        Ok(Self {
            metadata,
            ciphertext: ciphertext(raw.ciphertext)?,
            ciphertext_metadata: ciphertext_metadata(raw.ciphertext_metadata)?,
            aad: read_aad(raw.additional_authenticated_data, ErrorName::InvalidCiphertext)?,
            iv: initialization_vector(raw.initialization_vector)?,
            tag: authentication_tag(raw.authentication_tag)?,
        })
    }
}

/// Reads the body of a GetKeyMetadata: the principal is there, the KMS key may
/// be.
///
/// # Errors
/// `ValidationException`, and `UnsupportedOperationException` for an ARN that is
/// too long.
pub fn key_metadata(body: &[u8]) -> Result<RequestMetadata<'_>, XksError> {
    let raw: RawMetadataOnly<'_> = read(body)?;
    let metadata = RequestMetadata::new(raw.request_metadata)?;
    require(metadata.aws_principal_arn.as_ref(), "requestMetadata.awsPrincipalArn")?;
    Ok(metadata)
}

/// Reads the body of a GetHealthStatus: operation and request id are there.
///
/// # Errors
/// `ValidationException`, and `UnsupportedOperationException` for an ARN that is
/// too long.
pub fn health_metadata(body: &[u8]) -> Result<RequestMetadata<'_>, XksError> {
    let raw: RawMetadataOnly<'_> = read(body)?;
    RequestMetadata::new(raw.request_metadata)
}

/// The `kmsRequestId` of a body that was refused, for the log: whatever else is
/// wrong with it.
#[must_use]
pub fn request_id(body: &[u8]) -> Option<Cow<'_, str>> {
    let raw: RawMetadataOnly<'_> = read(body).ok()?;
    raw.request_metadata?.0.kms_request_id
}

impl<'a> RequestMetadata<'a> {
    fn new(raw: Option<Object<RawRequestMetadata<'a>>>) -> Result<Self, XksError> {
        let Object(raw) = require(raw, "requestMetadata")?;
        Ok(Self {
            aws_principal_arn: arn(raw.aws_principal_arn, "awsPrincipalArn")?,
            aws_source_vpc: raw.aws_source_vpc,
            aws_source_vpce: raw.aws_source_vpce,
            kms_key_arn: arn(raw.kms_key_arn, "kmsKeyArn")?,
            kms_operation: require(raw.kms_operation, "requestMetadata.kmsOperation")?,
            kms_request_id: require(raw.kms_request_id, "requestMetadata.kmsRequestId")?,
            kms_via_service: raw.kms_via_service,
        })
    }

    fn of_key_operation(raw: Option<Object<RawRequestMetadata<'a>>>) -> Result<Self, XksError> {
        let metadata = Self::new(raw)?;
        require(metadata.aws_principal_arn.as_ref(), "requestMetadata.awsPrincipalArn")?;
        require(metadata.kms_key_arn.as_ref(), "requestMetadata.kmsKeyArn")?;
        Ok(metadata)
    }
}

impl fmt::Debug for EncryptRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptRequest")
            .field("metadata", &self.metadata)
            .field("plaintext_len", &self.plaintext.len())
            .field("aad", &self.aad)
            .field("wants_integrity_value", &self.wants_integrity_value)
            .finish()
    }
}

impl fmt::Debug for DecryptRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptRequest")
            .field("metadata", &self.metadata)
            .field("ciphertext_len", &self.ciphertext.len())
            .field("ciphertext_metadata", &self.ciphertext_metadata)
            .field("aad", &self.aad)
            .finish_non_exhaustive()
    }
}

// === Fields ===

fn require<T>(field: Option<T>, name: &str) -> Result<T, XksError> {
    field.ok_or_else(|| invalid(format!("{name} is missing.")))
}

fn arn<'a>(arn: Option<Cow<'a, str>>, name: &str) -> Result<Option<Cow<'a, str>>, XksError> {
    let is_long = |arn: &str| arn.len() > MAX_ARN_LEN && arn.chars().count() > MAX_ARN_LEN;
    match arn {
        Some(arn) if is_long(&arn) => {
            Err(too_large(&format!("requestMetadata.{name}"), MAX_ARN_LEN, "characters"))
        }
        arn => Ok(arn),
    }
}

fn check_algorithm(algorithm: Option<Cow<'_, str>>) -> Result<(), XksError> {
    match require(algorithm, "encryptionAlgorithm")?.as_ref() {
        "AES_GCM" => Ok(()),
        _ => Err(invalid("encryptionAlgorithm must be AES_GCM.")),
    }
}

fn wants_cdiv(algorithm: Option<Cow<'_, str>>) -> Result<bool, XksError> {
    match algorithm.as_deref() {
        None => Ok(false),
        Some("SHA_256") => Ok(true),
        Some(_) => Err(invalid("ciphertextDataIntegrityValueAlgorithm must be SHA_256.")),
    }
}

fn plaintext(text: Option<Text<'_>>) -> Result<Zeroizing<Vec<u8>>, XksError> {
    let text = require(text, "plaintext")?;
    Field { name: "plaintext", max: MAX_DATA_LEN, wrong: ErrorName::Validation }.decode(&text)
}

fn read_aad(text: Option<Text<'_>>, wrong: ErrorName) -> Result<Aad, XksError> {
    let Some(text) = text else { return Ok(Aad::absent()) };
    let field = Field { name: "additionalAuthenticatedData", max: aad::MAX_LEN, wrong };
    let bytes = take(field.decode(&text)?);
    Aad::new(bytes).map_err(|_| too_large(field.name, field.max, "bytes"))
}

fn ciphertext(text: Option<Text<'_>>) -> Result<Vec<u8>, XksError> {
    let wrong = ErrorName::InvalidCiphertext;
    of_ciphertext(text, &Field { name: "ciphertext", max: MAX_DATA_LEN, wrong })
}

/// More bytes than Encrypt may return were never returned: such metadata is not
/// large but wrong, and so are such an IV and such a tag.
fn ciphertext_metadata(text: Option<Text<'_>>) -> Result<CiphertextMetadata, XksError> {
    if text.is_none() {
        return Ok(CiphertextMetadata::default());
    }
    let bytes = of_ciphertext(text, &small("ciphertextMetadata"))?;
    CiphertextMetadata::parse(&bytes)
        .map_err(|_| invalid_ciphertext("ciphertextMetadata has more than 20 bytes."))
}

fn initialization_vector(text: Option<Text<'_>>) -> Result<Vec<u8>, XksError> {
    let iv = of_ciphertext(text, &small("initializationVector"))?;
    match iv.len() {
        12 | 16 => Ok(iv),
        _ => Err(invalid_ciphertext("initializationVector must have 12 or 16 bytes.")),
    }
}

fn authentication_tag(text: Option<Text<'_>>) -> Result<[u8; 16], XksError> {
    let tag = of_ciphertext(text, &small("authenticationTag"))?;
    tag.try_into().map_err(|_| invalid_ciphertext("authenticationTag must have 16 bytes."))
}

fn of_ciphertext(text: Option<Text<'_>>, field: &Field) -> Result<Vec<u8>, XksError> {
    let text = text.ok_or_else(|| invalid_ciphertext(format!("{} is missing.", field.name)))?;
    Ok(take(field.decode(&text)?))
}

/// A field whose length its reader checks: nothing is too large for it.
fn small(name: &'static str) -> Field {
    Field { name, max: usize::MAX, wrong: ErrorName::InvalidCiphertext }
}

/// Out of the wiping buffer, for what is no secret.
fn take(mut bytes: Zeroizing<Vec<u8>>) -> Vec<u8> {
    std::mem::take(&mut *bytes)
}

/// A field of bytes: how large it may be, and what it is called when it is not
/// base64.
struct Field {
    name: &'static str,
    max: usize,
    wrong: ErrorName,
}

impl Field {
    /// Into one allocation, so that no copy of a plaintext stays anywhere.
    fn decode(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, XksError> {
        let room = text.len().div_ceil(4) * 3;
        if room.saturating_sub(2) > self.max {
            return Err(too_large(self.name, self.max, "bytes"));
        }
        let mut bytes = Zeroizing::new(vec![0; room]);
        let len = BASE64_STANDARD.decode_slice(text, &mut bytes).map_err(|_| self.not_base64())?;
        bytes.truncate(len);
        if len <= self.max { Ok(bytes) } else { Err(too_large(self.name, self.max, "bytes")) }
    }

    fn not_base64(&self) -> XksError {
        let name = self.name;
        XksError::new(self.wrong, format!("{name} is not base64 (RFC 4648 section 4, padded)."))
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> XksError {
    XksError::new(ErrorName::Validation, message)
}

fn invalid_ciphertext(message: impl Into<Cow<'static, str>>) -> XksError {
    XksError::new(ErrorName::InvalidCiphertext, message)
}

fn too_large(name: &str, max: usize, unit: &str) -> XksError {
    let message = format!("{name} has more than {max} {unit}, the most that this proxy takes.");
    XksError::new(ErrorName::UnsupportedOperation, message)
}

// === JSON ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadataOnly<'a> {
    #[serde(borrow)]
    request_metadata: Option<Object<RawRequestMetadata<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequestMetadata<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    aws_principal_arn: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    aws_source_vpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    aws_source_vpce: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    kms_key_arn: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    kms_operation: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    kms_request_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    kms_via_service: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEncrypt<'a> {
    #[serde(borrow)]
    request_metadata: Option<Object<RawRequestMetadata<'a>>>,
    #[serde(borrow)]
    additional_authenticated_data: Option<Text<'a>>,
    #[serde(borrow)]
    plaintext: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    encryption_algorithm: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    ciphertext_data_integrity_value_algorithm: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDecrypt<'a> {
    #[serde(borrow)]
    request_metadata: Option<Object<RawRequestMetadata<'a>>>,
    #[serde(borrow)]
    additional_authenticated_data: Option<Text<'a>>,
    #[serde(borrow)]
    ciphertext: Option<Text<'a>>,
    #[serde(borrow)]
    ciphertext_metadata: Option<Text<'a>>,
    #[serde(borrow)]
    initialization_vector: Option<Text<'a>>,
    #[serde(borrow)]
    authentication_tag: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    encryption_algorithm: Option<Cow<'a, str>>,
}

/// Unknown fields are skipped without recursion and without being kept. They
/// too must be UTF-8, hence the first line.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, XksError> {
    let text = std::str::from_utf8(body).map_err(|_| invalid("The body is not UTF-8."))?;
    let Object(request) = serde_json::from_str(text).map_err(|error| not_understood(&error))?;
    Ok(request)
}

/// Says where, and not what stands there: it may be data.
fn not_understood(error: &serde_json::Error) -> XksError {
    let (line, column) = (error.line(), error.column());
    invalid(format!(
        "The body is not the JSON object of this operation: see line {line}, column {column}."
    ))
}

/// An object, where serde would take an array as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A string that may be data. Nobody escapes base64, so it is a piece of the
/// body; if somebody does, what is copied is wiped, but for the few kilobytes in
/// which the JSON reader puts it together.
enum Text<'a> {
    Borrowed(&'a str),
    Copied(Zeroizing<String>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Copied(text) => text,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters;

        impl<'de> Visitor<'de> for Characters {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text::Copied(Zeroizing::new(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Characters)
    }
}

/// A string of the metadata: a piece of the body unless it has escapes.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    let text = Option::<Text<'a>>::deserialize(deserializer)?;
    Ok(text.map(|text| match text {
        Text::Borrowed(text) => Cow::Borrowed(text),
        Text::Copied(text) => Cow::Owned(text.to_string()),
    }))
}
