//! From an unverified header and two holders to an open envelope.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use twinlock_floe::{Backend, Header as FloeHeader, OpenKey};
use twinlock_format::limits::PAYLOAD_AAD_LEN;
use twinlock_format::{
    DetachedPrefix, DetachedPrefixError, EncryptionContext, EnvelopeId, Generation, Header, PairId,
    PairKeyslot, Prefix, UnverifiedHeader, VerifiedHeader, limits, schedule,
};
use twinlock_keys::{CustomerKey, KeyHolder, KeyUri, ProviderKey, Secret};

use crate::bulk::memory::{self, DecryptSliceError, Size};
use crate::bulk::{self, FileAt};
use crate::cache::UnwrapCache;
use crate::encrypt::{available_threads, chosen_backend};
use crate::payload::{
    DecryptReader, Meter, PayloadError, Progress, RangeReader, SeekReader, Segments, open_floe,
};
use crate::read_at::{ReadAt, read_up_to_at};
use crate::shares::{KeyslotFailure, open_keyslot_through};

mod error;

use error::uri_pairs;
pub use error::{DecryptError, FailedAttempt, OpenError, OpenErrorKind, ReadHeaderError};

/// A reader tries at most so many keyslots of one header.
const MAX_ATTEMPTS: usize = 4;

/// Opens envelopes with the holders that the application names.
///
/// No holder is ever contacted because a header names it: the header's URIs
/// are only matched against the holders given here, in the order in which they
/// were given.
#[derive(Clone)]
#[must_use = "nothing happens before `open`"]
pub struct Decryptor {
    expected: Expected,
    providers: Vec<ProviderKey>,
    customers: Vec<CustomerKey>,
    moved: Vec<(KeyUri, KeyUri)>,
    min_generation: Generation,
    backend: Option<Backend>,
    threads: NonZeroUsize,
    cache: Option<Arc<UnwrapCache>>,
}

#[derive(Clone)]
enum Expected {
    Any,
    Pairs(EncryptionContext),
}

impl Decryptor {
    /// Opens only envelopes whose encryption context has all pairs of
    /// `context`. With an empty `context`, only envelopes without one.
    pub fn expecting(context: EncryptionContext) -> Self {
        Self::new(Expected::Pairs(context))
    }

    /// Opens envelopes of any encryption context. Whoever stores the files can
    /// then swap one for another without being noticed.
    pub fn any_context() -> Self {
        Self::new(Expected::Any)
    }

    fn new(expected: Expected) -> Self {
        Self {
            expected,
            providers: Vec::new(),
            customers: Vec::new(),
            moved: Vec::new(),
            min_generation: Generation::default(),
            backend: None,
            threads: available_threads(),
            cache: None,
        }
    }

    /// Adds a provider's holder.
    pub fn provider(mut self, holder: ProviderKey) -> Self {
        self.providers.push(holder);
        self
    }

    /// Adds a customer's holder.
    pub fn customer(mut self, holder: CustomerKey) -> Self {
        self.customers.push(holder);
        self
    }

    /// Says that what headers call `from` is now served by the holder `to`: a
    /// token was renamed, a host moved.
    pub fn moved(mut self, from: KeyUri, to: KeyUri) -> Self {
        self.moved.push((from, to));
        self
    }

    /// Refuses headers of an earlier generation: those that a rewrap replaced.
    pub fn min_generation(mut self, generation: u64) -> Self {
        self.min_generation = Generation(generation);
        self
    }

    /// Which AES-GCM implementation opens. Without this it is what the
    /// environment variable `TWINLOCK_AEAD` says, else the fastest there is.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// On how many threads at most the bulk work is done. Without this on as
    /// many as the process may use processors
    /// ([`std::thread::available_parallelism`]). What one thread does as fast is
    /// left to one.
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Keeps unwrapped shares in `cache`, and takes those that are there. Read
    /// at [`UnwrapCache`] what that costs.
    pub fn cache(mut self, cache: Arc<UnwrapCache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// What can be said of `header` before any holder is asked: that its
    /// context and generation are the expected ones. [`Decryptor::open`] begins
    /// with it; it is of its own use where to reach holders costs something (a
    /// PIN, a lookup).
    ///
    /// # Errors
    /// When they are not.
    pub fn check(&self, header: &UnverifiedHeader) -> Result<(), OpenError> {
        self.check_context(header.header().context())?;
        self.check_generation(header.header().generation())
    }

    /// The key step: has both holders of a keyslot unwrap their shares, side
    /// by side, and verifies the header with what they give.
    ///
    /// # Errors
    /// When the context is not the expected one (no holder is called then), no
    /// keyslot opens, or the header was tampered with.
    pub async fn open(&self, header: UnverifiedHeader) -> Result<Envelope, OpenError> {
        let backend = chosen_backend(self.backend)?;
        Ok(self.open_header(header).await?.envelope(backend, self.threads))
    }

    /// The key step without the payload: the verified header and its DEK.
    pub(crate) async fn open_header(
        &self,
        header: UnverifiedHeader,
    ) -> Result<OpenHeader, OpenError> {
        self.check(&header)?;
        let (dek, meter, opened_with) = self.open_dek(header.header()).await?;
        let envelope_id = header.header().envelope_id();
        let (payload_key, header_key) =
            schedule::payload_and_header_key(dek.expose(), &envelope_id);
        let header = header.verify(&header_key).map_err(|_| OpenError::Tampered)?;
        let payload_key = Secret::copy_of(&payload_key);
        Ok(OpenHeader { header: Arc::new(header), dek, payload_key, meter, opened_with })
    }

    /// [`Decryptor::open`] for callers without an async runtime: it runs one of
    /// its own and waits.
    ///
    /// # Errors
    /// As [`Decryptor::open`].
    ///
    /// # Panics
    /// When called from inside an async runtime.
    #[cfg(feature = "blocking")]
    pub fn open_blocking(&self, header: UnverifiedHeader) -> Result<Envelope, OpenError> {
        crate::blocking::wait_for(self.open(header))?
    }

    /// Reads a header from the beginning of `input`, opens it, and returns a
    /// reader for the plaintext.
    ///
    /// # Errors
    /// As [`read_header`], [`Decryptor::open`] and [`Envelope::reader`].
    pub async fn reader<R: Read>(&self, mut input: R) -> Result<DecryptReader<R>, DecryptError> {
        let header = read_header(&mut input)?;
        Ok(self.open(header).await?.reader(input)?)
    }

    /// As [`Decryptor::reader`], for `tokio::io`.
    ///
    /// # Errors
    /// As [`Decryptor::reader`].
    #[cfg(feature = "tokio")]
    pub async fn async_reader<R: tokio::io::AsyncRead + Unpin>(
        &self,
        mut input: R,
    ) -> Result<crate::AsyncDecryptReader<R>, DecryptError> {
        let header = read_header_async(&mut input).await?;
        Ok(self.open(header).await?.async_reader(input).await?)
    }

    /// Opens an envelope that lies in memory as a whole. From [`PARALLEL_FROM`]
    /// bytes on, several threads do it.
    ///
    /// # Errors
    /// As [`Decryptor::reader`]; no plaintext is returned then.
    ///
    /// [`PARALLEL_FROM`]: crate::PARALLEL_FROM
    pub async fn decrypt_slice(&self, envelope: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let header = read_header(&mut &envelope[..])?;
        let opened = self.open(header).await?;
        let (key, size) = opened.measure(envelope)?;
        let mut plaintext = vec![0; size.plaintext_len()];
        opened.read_from_slice(&key, size, envelope, &mut plaintext)?;
        Ok(plaintext)
    }

    fn check_context(&self, actual: &EncryptionContext) -> Result<(), OpenError> {
        match &self.expected {
            Expected::Any => Ok(()),
            Expected::Pairs(expected) if expected.is_empty() && !actual.is_empty() => {
                Err(OpenError::UnexpectedContext { actual: actual.clone() })
            }
            Expected::Pairs(expected) => {
                match expected.iter().find(|(key, value)| actual.get(key) != Some(value)) {
                    Some((key, _)) => Err(OpenError::WrongContext {
                        key: key.to_owned(),
                        actual: actual.get(key).map(str::to_owned),
                    }),
                    None => Ok(()),
                }
            }
        }
    }

    fn check_generation(&self, actual: Generation) -> Result<(), OpenError> {
        if actual < self.min_generation {
            return Err(OpenError::OldGeneration {
                actual: actual.0,
                expected: self.min_generation.0,
            });
        }
        Ok(())
    }

    async fn open_dek(&self, header: &Header) -> Result<(Secret<32>, Meter, PairId), OpenError> {
        let mut failures = Vec::new();
        for attempt in self.attempts(header).into_iter().take(MAX_ATTEMPTS) {
            let opened = open_keyslot_through(
                self.cache.as_deref(),
                attempt.keyslot,
                attempt.provider,
                attempt.customer,
                &header.envelope_id(),
                header.context(),
            )
            .await;
            match opened {
                Ok((dek, meter)) => return Ok((dek, meter, attempt.keyslot.pair().pair_id())),
                Err(failure) => failures.push(attempt.failed(failure)),
            }
        }
        match failures.is_empty() {
            true => Err(OpenError::NoKeyslot { uris: uri_pairs(header) }),
            false => Err(OpenError::Keyslots { failures }),
        }
    }

    /// The keyslots that we have both holders for, in the order in which the
    /// holders were given.
    pub(crate) fn attempts<'a>(&'a self, header: &'a Header) -> Vec<Attempt<'a>> {
        let mut attempts = Vec::new();
        for provider in self.providers.iter().map(ProviderKey::holder) {
            for customer in self.customers.iter().map(CustomerKey::holder) {
                let matching = header.supported_keyslots().filter(|keyslot| {
                    self.serves(provider, keyslot.pair().provider().uri())
                        && self.serves(customer, keyslot.pair().customer().uri())
                });
                attempts.extend(matching.map(|keyslot| Attempt { keyslot, provider, customer }));
            }
        }
        attempts
    }

    /// The first provider's holder that a header calls `uri`.
    pub(crate) fn provider_of(&self, uri: &str) -> Option<&ProviderKey> {
        self.providers.iter().find(|key| self.serves(key.holder(), uri))
    }

    /// The first customer's holder that a header calls `uri`.
    pub(crate) fn customer_of(&self, uri: &str) -> Option<&CustomerKey> {
        self.customers.iter().find(|key| self.serves(key.holder(), uri))
    }

    /// True if `holder` is the one that a header calls `uri`.
    fn serves(&self, holder: &dyn KeyHolder, uri: &str) -> bool {
        self.names(uri, holder.uri())
    }

    /// True if `uri`, as a header has it, names `key`.
    pub(crate) fn names(&self, uri: &str, key: &KeyUri) -> bool {
        if uri == key.as_str() {
            return true; // a key's own spelling, as headers have it
        }
        let Ok(uri) = KeyUri::parse(uri) else { return false };
        let moved = self.moved.iter().filter(|(from, _)| from.same_key(&uri)).map(|(_, to)| to);
        moved.chain([&uri]).any(|uri| uri.same_key(key))
    }
}

/// A header that was verified, and the DEK that verified it.
pub(crate) struct OpenHeader {
    pub(crate) header: Arc<VerifiedHeader>,
    pub(crate) dek: Secret<32>,
    pub(crate) payload_key: Secret<32>,
    pub(crate) meter: Meter,
    /// Which keyslot gave the DEK.
    pub(crate) opened_with: PairId,
}

impl OpenHeader {
    /// For the payload of this header.
    pub(crate) fn envelope(&self, backend: Backend, threads: NonZeroUsize) -> Envelope {
        let facts = self.header.header();
        Envelope {
            payload_key: Secret::copy_of(self.payload_key.expose()),
            payload_aad: schedule::payload_aad(
                facts.payload_suite(),
                &facts.envelope_id(),
                facts.context(),
            ),
            header: Arc::clone(&self.header),
            detached: false,
            backend,
            threads,
            meter: self.meter.clone(),
        }
    }
}

/// A keyslot and the two holders that serve it.
pub(crate) struct Attempt<'a> {
    pub(crate) keyslot: &'a PairKeyslot,
    pub(crate) provider: &'a dyn KeyHolder,
    pub(crate) customer: &'a dyn KeyHolder,
}

impl Attempt<'_> {
    fn failed(&self, failure: KeyslotFailure) -> FailedAttempt {
        FailedAttempt {
            provider: self.provider.uri().clone(),
            customer: self.customer.uri().clone(),
            failure,
        }
    }
}

/// Reads the header at the beginning of `input` and nothing after it. What it
/// says is unverified.
///
/// At most 64 KiB are read and allocated, whatever the bytes claim.
///
/// # Errors
/// When reading fails or the bytes are no header of ours.
pub fn read_header(input: &mut impl Read) -> Result<UnverifiedHeader, ReadHeaderError> {
    let mut bytes = Vec::with_capacity(limits::PREFIX_LEN);
    read_up_to(input, limits::PREFIX_LEN, &mut bytes)?;
    let prefix = Prefix::parse(&bytes)?;
    read_up_to(input, prefix.header_len() - bytes.len(), &mut bytes)?;
    Ok(UnverifiedHeader::parse(bytes)?)
}

/// Reads a header that is kept apart from its payload: it is all of `input`.
/// What it says is unverified.
///
/// # Errors
/// As [`read_header`], and when something follows (format.md#R5).
pub fn read_detached_header(input: &mut impl Read) -> Result<UnverifiedHeader, ReadHeaderError> {
    let header = read_header(input)?;
    let mut behind = Vec::new();
    read_up_to(input, 1, &mut behind)?;
    match behind.is_empty() {
        true => Ok(header),
        false => Err(ReadHeaderError::Trailing { offset: header.as_bytes().len() }),
    }
}

/// As [`read_header`], for `tokio::io`.
///
/// # Errors
/// As [`read_header`].
#[cfg(feature = "tokio")]
pub async fn read_header_async(
    input: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Result<UnverifiedHeader, ReadHeaderError> {
    let mut bytes = Vec::with_capacity(limits::PREFIX_LEN);
    read_up_to_async(input, limits::PREFIX_LEN, &mut bytes).await?;
    let prefix = Prefix::parse(&bytes)?;
    read_up_to_async(input, prefix.header_len() - bytes.len(), &mut bytes).await?;
    Ok(UnverifiedHeader::parse(bytes)?)
}

#[cfg(feature = "tokio")]
async fn read_up_to_async(
    input: &mut (impl tokio::io::AsyncRead + Unpin),
    len: usize,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    input.take(len as u64).read_to_end(bytes).await.map(drop)
}

fn read_up_to(input: &mut impl Read, len: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    input.take(len as u64).read_to_end(bytes).map(drop)
}

/// An envelope whose header was verified. Readers of its payload are made from
/// it, as many as are wanted.
pub struct Envelope {
    header: Arc<VerifiedHeader>,
    payload_key: Secret<32>,
    payload_aad: [u8; PAYLOAD_AAD_LEN],
    detached: bool,
    backend: Backend,
    threads: NonZeroUsize,
    meter: Meter,
}

impl Envelope {
    /// The same envelope, whose header was kept apart: what its readers get is
    /// the payload alone, from its prefix on, and has to be that of this header.
    #[must_use]
    pub fn detached(self) -> Self {
        Self { detached: true, ..self }
    }

    /// The header, which is authentic.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.header.header()
    }

    /// Tells how far the bulk work comes that is done with this envelope.
    #[must_use]
    pub fn progress(&mut self) -> Progress {
        self.meter.progress()
    }

    /// Reads the plaintext from start to end. `input` stands right behind the
    /// header, where [`read_header`] leaves it; if the header is kept apart, at
    /// the start of the payload.
    ///
    /// # Errors
    /// When the payload's own header cannot be read or is not authentic.
    pub fn reader<R: Read>(&self, mut input: R) -> io::Result<DecryptReader<R>> {
        let key = self.payload_key(&mut input)?;
        Ok(DecryptReader::new(input, &key, self.first_segment(), self.meter.clone()))
    }

    /// Decrypts all that `input` has to `output`, and returns the number of
    /// plaintext bytes. Several threads open; `input` stands where
    /// [`Envelope::reader`] wants it.
    ///
    /// Nothing is written before it was verified, but the end is verified last:
    /// after an error `output` has a verified *prefix*.
    ///
    /// # Errors
    /// When reading or writing fails, or the payload is not authentic
    /// ([`PayloadError::of`]).
    pub fn decrypt(
        &self,
        mut input: impl Read + Send,
        mut output: impl Write + Send,
    ) -> io::Result<u64> {
        let key = self.payload_key(&mut input)?;
        let start = self.first_segment();
        let len = bulk::stream::open(&key, start, &self.meter, self.threads, input, &mut output)?;
        output.flush()?;
        Ok(len)
    }

    /// Decrypts the regular file `input`, which is all of the envelope (or of the
    /// payload whose header is kept apart), to the empty one `output`; returns
    /// the number of plaintext bytes. Several threads work, each at its own
    /// place, and where the files stand does not matter.
    ///
    /// # Errors
    /// When reading ([`file::InputFailed`](crate::file::InputFailed)) or writing
    /// fails, or the payload is not authentic. What `output` has then is verified, and has gaps: it is of no use.
    pub fn decrypt_file(&self, input: &File, output: &File) -> io::Result<u64> {
        let start = if self.detached { 0 } else { self.payload_start() };
        let key = self.payload_key(&mut FileAt { file: input, offset: start })?;
        let start = self.first_segment();
        bulk::file::open(&key, start, &self.meter, self.threads, input, output)
    }

    /// Reads any part of the plaintext. The envelope, or the payload whose header
    /// is kept apart, is all of `input`.
    ///
    /// # Errors
    /// When the payload's own header cannot be read or is not authentic.
    pub fn seek_reader<R: Read + Seek>(&self, mut input: R) -> io::Result<SeekReader<R>> {
        input.seek(SeekFrom::Start(self.payload_front().start))?;
        let key = self.payload_key(&mut input)?;
        let size = input.seek(SeekFrom::End(0))?;
        Ok(SeekReader::new(input, self.segments(key, size)?))
    }

    /// Reads any parts of the plaintext, from many threads at a time. The
    /// envelope, or the payload whose header is kept apart, is all of `input`.
    /// Make one reader for all threads: what it learnt of the input, it tells
    /// them.
    ///
    /// # Errors
    /// When the input's size cannot be learnt, or the payload's own header cannot
    /// be read or is not authentic.
    pub fn range_reader<R: ReadAt>(&self, input: R) -> io::Result<RangeReader<R>> {
        let range = self.payload_front();
        let mut front = [0; limits::DETACHED_PREFIX_LEN + FloeHeader::LEN];
        let len = usize::try_from(range.end - range.start).expect("it fits the array above");
        let filled = read_up_to_at(&input, &mut front[..len], range.start)?;
        let key = self.payload_key(&mut &front[..filled])?;
        let size = input.size()?;
        Ok(RangeReader::new(input, self.segments(key, size)?))
    }

    /// The length of the plaintext, in bytes, if `envelope` is whole. That is
    /// all of the envelope, or of the payload whose header is kept apart.
    ///
    /// The segments' length, which this follows from, is authentic. That nothing
    /// is missing at the end is not known before all of it was decrypted.
    ///
    /// # Errors
    /// When the payload's own header is not authentic, or no envelope has that
    /// length.
    pub fn plaintext_len(&self, envelope: &[u8]) -> Result<usize, PayloadError> {
        self.measure(envelope).map(|(_, size)| size.plaintext_len())
    }

    /// Decrypts an envelope that lies in memory into the caller's buffer, which
    /// has at least [`Envelope::plaintext_len`] bytes. Returns that length: the
    /// plaintext is at the beginning of the buffer, and what is behind it stays
    /// as it was. `envelope` is all of it, or of the payload whose header is kept
    /// apart. From [`PARALLEL_FROM`] bytes on, several threads open.
    ///
    /// # Errors
    /// When the payload is not authentic: then the buffer has zeros where the
    /// plaintext would be, or is as it was. Nothing is verified before all is.
    /// When it is too short, which is seen before anything is written.
    ///
    /// [`PARALLEL_FROM`]: crate::PARALLEL_FROM
    pub fn decrypt_into(
        &self,
        envelope: &[u8],
        plaintext: &mut [u8],
    ) -> Result<usize, DecryptSliceError> {
        let (key, size) = self.measure(envelope)?;
        let (needed, len) = (size.plaintext_len(), plaintext.len());
        let plaintext =
            plaintext.get_mut(..needed).ok_or(DecryptSliceError::BufferTooShort { needed, len })?;
        self.read_from_slice(&key, size, envelope, plaintext)?;
        Ok(needed)
    }

    /// As [`Envelope::decrypt_into`], with the envelope's buffer for the
    /// plaintext: returns it, from the beginning of the buffer, where zeros
    /// follow it.
    ///
    /// # Errors
    /// When the payload is not authentic: then the buffer is as it was, or has
    /// only zeros.
    pub fn decrypt_in_place<'a>(
        &self,
        envelope: &'a mut [u8],
    ) -> Result<&'a mut [u8], PayloadError> {
        let (key, size) = self.measure(envelope)?;
        let start = self.first_segment_in_memory();
        memory::open_in_place(&key, size, start, &self.meter, self.threads, envelope)?;
        Ok(&mut envelope[..size.plaintext_len()])
    }

    /// Decrypts what was measured, into a slice of the plaintext's length.
    fn read_from_slice(
        &self,
        key: &OpenKey,
        size: Size,
        envelope: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), PayloadError> {
        let segments = &envelope[self.first_segment_in_memory()..];
        let (meter, threads) = (&self.meter, self.threads);
        memory::open_into(key, size, self.first_segment(), meter, threads, segments, plaintext)
    }

    /// Verifies the payload's own header, and says how the rest lies in memory.
    fn measure(&self, envelope: &[u8]) -> Result<(OpenKey, Size), PayloadError> {
        if self.detached {
            let len = envelope.len().min(limits::DETACHED_PREFIX_LEN);
            check_payload_prefix(&envelope[..len], self.header().envelope_id())?;
        }
        let truncated = PayloadError::Truncated { offset: envelope.len() as u64 };
        let (front, segments) =
            envelope.split_at_checked(self.first_segment_in_memory()).ok_or(truncated)?;
        let key = self.open_key(&front[front.len() - FloeHeader::LEN..])?;
        let size = Size::of_ciphertext(key.segment_len(), segments.len()).map_err(|_| truncated)?;
        Ok((key, size))
    }

    /// As [`Envelope::reader`], for `tokio::io`.
    ///
    /// # Errors
    /// When the payload's own header cannot be read or is not authentic.
    #[cfg(feature = "tokio")]
    pub async fn async_reader<R: tokio::io::AsyncRead + Unpin>(
        &self,
        mut input: R,
    ) -> io::Result<crate::AsyncDecryptReader<R>> {
        if self.detached {
            let mut prefix = Vec::with_capacity(limits::DETACHED_PREFIX_LEN);
            read_up_to_async(&mut input, limits::DETACHED_PREFIX_LEN, &mut prefix).await?;
            check_payload_prefix(&prefix, self.header().envelope_id())?;
        }
        let mut floe_header = Vec::with_capacity(FloeHeader::LEN);
        read_up_to_async(&mut input, FloeHeader::LEN, &mut floe_header).await?;
        let key = self.open_key(&floe_header)?;
        let meter = self.meter.clone();
        Ok(crate::AsyncDecryptReader::new(input, &key, self.first_segment(), meter))
    }

    fn payload_key(&self, input: &mut impl Read) -> io::Result<OpenKey> {
        if self.detached {
            read_payload_prefix(input, self.header().envelope_id())?;
        }
        let mut floe_header = Vec::with_capacity(FloeHeader::LEN);
        read_up_to(input, FloeHeader::LEN, &mut floe_header)?;
        Ok(self.open_key(&floe_header)?)
    }

    fn open_key(&self, floe_header: &[u8]) -> Result<OpenKey, PayloadError> {
        let end = self.payload_start() + floe_header.len() as u64;
        let floe_header =
            floe_header.try_into().map_err(|_| PayloadError::Truncated { offset: end })?;
        let key = self.payload_key.expose();
        open_floe(key, &self.payload_aad, floe_header, self.backend, self.payload_start())
    }

    fn segments(&self, key: OpenKey, size: u64) -> Result<Segments, PayloadError> {
        Segments::new(key, self.first_segment(), size, self.meter.clone())
    }

    /// What of an input stands before the segments, and is not the header.
    fn payload_front(&self) -> Range<u64> {
        let start = if self.detached { 0 } else { self.payload_start() };
        start..self.first_segment()
    }

    fn first_segment(&self) -> u64 {
        self.payload_start() + FloeHeader::LEN as u64
    }

    fn first_segment_in_memory(&self) -> usize {
        usize::try_from(self.first_segment()).expect("a header has at most 64 KiB")
    }

    /// Where in the input FLOE's header stands.
    fn payload_start(&self) -> u64 {
        match self.detached {
            true => limits::DETACHED_PREFIX_LEN as u64,
            false => self.header.as_bytes().len() as u64,
        }
    }
}

/// Reads the first bytes of a payload that is kept apart, and makes sure that
/// it is that of `envelope`.
pub(crate) fn read_payload_prefix(input: &mut impl Read, envelope: EnvelopeId) -> io::Result<()> {
    let mut prefix = Vec::with_capacity(limits::DETACHED_PREFIX_LEN);
    read_up_to(input, limits::DETACHED_PREFIX_LEN, &mut prefix)?;
    Ok(check_payload_prefix(&prefix, envelope)?)
}

/// Of format.md#R27.
fn check_payload_prefix(prefix: &[u8], expected: EnvelopeId) -> Result<(), PayloadError> {
    let actual = match DetachedPrefix::parse(prefix) {
        Ok(prefix) => prefix.envelope_id,
        Err(DetachedPrefixError::Truncated { have, .. }) => {
            return Err(PayloadError::Truncated { offset: have as u64 });
        }
        Err(error) => return Err(PayloadError::Prefix(error)),
    };
    match actual == expected {
        true => Ok(()),
        false => Err(PayloadError::OtherEnvelope { actual, expected }),
    }
}
