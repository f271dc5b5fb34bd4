//! From two holders to an encryptor for one payload.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;

use futures_util::future::try_join_all;
use twinlock_floe::{Backend, BackendError, Header as FloeHeader, SealKey, SegmentLen};
use twinlock_format::limits::{
    DEK_NONCE_LEN, DETACHED_PREFIX_LEN, MAX_KEYSLOTS, MAX_SEGMENT_LEN, MIN_SEGMENT_LEN,
    PAYLOAD_AAD_LEN,
};
use twinlock_format::{
    DetachedPrefix, EncryptionContext, EnvelopeId, Header, HeaderTooLarge, InvalidHeader,
    InvalidShareSlot, Padding, schedule,
};
use twinlock_keys::{
    CustomerKey, HolderError, KeyUri, ProviderKey, RandomnessError, Scheme, Secret, Side,
};
use zeroize::Zeroize as _;

use crate::batch::Batch;
use crate::bulk;
use crate::bulk::memory::{self, EncryptSliceError};
use crate::limits::PairLimits;
use crate::payload::{EncryptWriter, Meter, Progress};
use crate::random::Drawn;
use crate::shares::NewPair;

/// The length of an encrypted segment unless the caller chooses another: 256
/// KiB (`docs/adr/0006-segment-length.md`).
pub const DEFAULT_SEGMENT_LEN: u32 = 256 << 10;

/// Encrypts one payload: the key traffic is done, the bulk work is to come.
///
/// Every way to use it consumes it, because a header is for one payload.
pub struct Encryptor {
    header: Vec<u8>,
    detached: bool,
    envelope_id: EnvelopeId,
    payload_key: Secret<32>,
    payload_aad: [u8; PAYLOAD_AAD_LEN],
    floe_iv: [u8; FLOE_IV_LEN],
    segment_len: SegmentLen,
    backend: Backend,
    threads: NonZeroUsize,
    meter: Meter,
}

/// Bytes of FLOE's own IV.
const FLOE_IV_LEN: usize = 32;

impl Encryptor {
    /// Begins an encryptor whose first keyslot is of these two holders.
    pub fn builder(provider: ProviderKey, customer: CustomerKey) -> EncryptorBuilder {
        EncryptorBuilder {
            keyslots: vec![(provider, customer)],
            context: EncryptionContext::new(),
            segment_len: None,
            backend: None,
            threads: available_threads(),
            read_back: true,
        }
    }

    /// The envelope's random name, 32 bytes.
    #[must_use]
    pub fn envelope_id(&self) -> EnvelopeId {
        self.envelope_id
    }

    /// The header alone, for whoever keeps it apart.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The same encryptor, which writes the payload alone and leaves the header
    /// to the caller. [`Envelope::detached`](crate::Envelope::detached) reads it.
    ///
    /// Store the header before the payload is counted on: without it, nobody
    /// opens the payload.
    ///
    /// ```
    /// # futures_util::FutureExt::now_or_never(async {
    /// # use twinlock::{CustomerKey, EncryptionContext, FileKek, KeyUri, ProviderKey};
    /// use twinlock::{Decryptor, Encryptor, read_detached_header};
    /// # let folder = tempfile::tempdir()?;
    /// # let kek = |name| KeyUri::parse(&format!("file://{}/{name}", folder.path().display()));
    /// # let (ours, theirs) = (kek("provider.kek")?, kek("customer.kek")?);
    /// # FileKek::create(&ours)?;
    /// # FileKek::create(&theirs)?;
    /// # let provider = ProviderKey::new(FileKek::open(&ours)?)?;
    /// # let customer = CustomerKey::new(FileKek::open(&theirs)?)?;
    /// # let decryptor = Decryptor::expecting(EncryptionContext::new())
    /// #     .provider(provider.clone()).customer(customer.clone());
    ///
    /// let encryptor = Encryptor::builder(provider, customer).prepare().await?.detached();
    /// let header = encryptor.header().to_vec();
    /// let payload = encryptor.encrypt_slice(b"attack at dawn")?;
    ///
    /// let header = read_detached_header(&mut header.as_slice())?;
    /// let envelope = decryptor.open(header).await?.detached();
    /// let plaintext = std::io::read_to_string(envelope.reader(payload.as_slice())?)?;
    /// assert_eq!(plaintext, "attack at dawn");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap().unwrap();
    /// ```
    #[must_use]
    pub fn detached(self) -> Self {
        Self { detached: true, ..self }
    }

    /// How many bytes the envelope of a plaintext of `plaintext_len` bytes has;
    /// if the header is kept apart, the payload.
    /// `None` when it is too long for one envelope.
    #[must_use]
    pub fn envelope_len(&self, plaintext_len: u64) -> Option<u64> {
        let layout = twinlock_floe::Layout::of_plaintext(self.segment_len, plaintext_len).ok()?;
        layout.ciphertext_len().checked_add((self.start_len() + FloeHeader::LEN) as u64)
    }

    /// Tells how far the bulk work comes that is done with this encryptor.
    #[must_use]
    pub fn progress(&mut self) -> Progress {
        self.meter.progress()
    }

    /// Encrypts a slice into an envelope. From [`PARALLEL_FROM`] bytes on,
    /// several threads seal.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    ///
    /// [`PARALLEL_FROM`]: crate::PARALLEL_FROM
    pub fn encrypt_slice(self, plaintext: &[u8]) -> Result<Vec<u8>, RandomnessError> {
        let len = self.len_in_memory(plaintext.len()).expect("an envelope takes all of memory");
        let mut envelope = vec![0; len];
        self.write_to_slice(plaintext, &mut envelope)?;
        Ok(envelope)
    }

    /// As [`Encryptor::encrypt_slice`], into the caller's buffer, which has at
    /// least [`Encryptor::envelope_len`] bytes. Returns that length: the
    /// envelope is at the beginning of the buffer, and what is behind it stays
    /// as it was.
    ///
    /// # Errors
    /// When the buffer is too short, which is seen before anything is written;
    /// or the system has no random bytes to give: then the buffer has no
    /// envelope, and no plaintext either.
    pub fn encrypt_into(
        self,
        plaintext: &[u8],
        envelope: &mut [u8],
    ) -> Result<usize, EncryptSliceError> {
        let (needed, len) = (self.len_in_memory(plaintext.len())?, envelope.len());
        let envelope =
            envelope.get_mut(..needed).ok_or(EncryptSliceError::BufferTooShort { needed, len })?;
        self.write_to_slice(plaintext, envelope)?;
        Ok(needed)
    }

    /// As [`Encryptor::encrypt_slice`], with the plaintext's buffer for the
    /// envelope.
    ///
    /// The envelope is longer. With a capacity of [`Encryptor::envelope_len`]
    /// bytes everything stays where it is. With less, the envelope gets a new
    /// buffer, into which the plaintext is sealed, and the old one is wiped
    /// before it is freed: no plaintext is left where nobody looks for it.
    ///
    /// ```
    /// # futures_util::FutureExt::now_or_never(async {
    /// # use twinlock::{CustomerKey, Decryptor, Encryptor, FileKek, KeyUri, ProviderKey, read_header};
    /// # let folder = tempfile::tempdir()?;
    /// # let kek = |name| KeyUri::parse(&format!("file://{}/{name}", folder.path().display()));
    /// # let (ours, theirs) = (kek("provider.kek")?, kek("customer.kek")?);
    /// # FileKek::create(&ours)?;
    /// # FileKek::create(&theirs)?;
    /// # let provider = ProviderKey::new(FileKek::open(&ours)?)?;
    /// # let customer = CustomerKey::new(FileKek::open(&theirs)?)?;
    /// # let decryptor = Decryptor::any_context()
    /// #     .provider(provider.clone()).customer(customer.clone());
    /// let encryptor = Encryptor::builder(provider, customer).prepare().await?;
    /// let mut buffer = b"attack at dawn".to_vec();
    /// encryptor.encrypt_in_place(&mut buffer)?; // an envelope now
    ///
    /// let opened = decryptor.open(read_header(&mut &buffer[..])?).await?;
    /// assert_eq!(opened.decrypt_in_place(&mut buffer)?, b"attack at dawn");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    /// When the system has no random bytes to give: then the buffer was wiped
    /// and is empty.
    pub fn encrypt_in_place(self, buffer: &mut Vec<u8>) -> Result<(), EncryptSliceError> {
        let len = self.len_in_memory(buffer.len())?;
        let sealed = match buffer.capacity() < len {
            true => self.replace(buffer, len),
            false => self.extend(buffer, len),
        };
        sealed.map_err(|error| {
            buffer.as_mut_slice().zeroize();
            buffer.clear();
            error.into()
        })
    }

    /// Seals the buffer's plaintext into a new buffer, and wipes the old one.
    fn replace(self, buffer: &mut Vec<u8>, len: usize) -> Result<(), RandomnessError> {
        let mut envelope = vec![0; len];
        self.write_to_slice(buffer, &mut envelope)?;
        buffer.as_mut_slice().zeroize();
        *buffer = envelope;
        Ok(())
    }

    /// Seals the buffer's plaintext where it is.
    fn extend(self, buffer: &mut Vec<u8>, len: usize) -> Result<(), RandomnessError> {
        let (meter, threads, plaintext_len) = (self.meter.clone(), self.threads, buffer.len());
        buffer.resize(len, 0);
        let (key, start) = self.start();
        memory::seal_in_place(&key, &meter, threads, start.len(), plaintext_len, buffer)?;
        buffer[..start.len()].copy_from_slice(&start);
        Ok(())
    }

    /// Encrypts into a slice of the envelope's length.
    fn write_to_slice(self, plaintext: &[u8], envelope: &mut [u8]) -> Result<(), RandomnessError> {
        let (meter, threads) = (self.meter.clone(), self.threads);
        let (key, start) = self.start();
        let (front, segments) = envelope.split_at_mut(start.len());
        memory::seal_from(&key, &meter, threads, plaintext, segments)?;
        front.copy_from_slice(&start); // last, for without it there is no envelope
        Ok(())
    }

    fn len_in_memory(&self, plaintext_len: usize) -> Result<usize, EncryptSliceError> {
        self.envelope_len(plaintext_len as u64)
            .and_then(|len| usize::try_from(len).ok())
            .ok_or(EncryptSliceError::TooLong(plaintext_len))
    }

    /// Encrypts all of `input` to `output`; returns the number of plaintext
    /// bytes. Several threads seal; each has one buffer, however slow the ends
    /// are. A short input is done on the caller's thread.
    ///
    /// # Errors
    /// When reading or writing fails; what was written by then is no envelope.
    pub fn encrypt(
        self,
        input: impl Read + Send,
        mut output: impl Write + Send,
    ) -> io::Result<u64> {
        let (meter, threads) = (self.meter.clone(), self.threads);
        let (key, start) = self.start();
        output.write_all(&start)?;
        let len = bulk::stream::seal(&key, &meter, threads, input, &mut output)?;
        output.flush()?;
        Ok(len)
    }

    /// Encrypts all of the regular file `input` to the empty one `output`, from
    /// several threads, each at its own place; returns the number of plaintext
    /// bytes. Where the files stand does not matter. What follows (to flush it
    /// to the disk, to give it a name) is the caller's, or
    /// [`file::encrypt_file`](crate::file::encrypt_file)'s.
    ///
    /// # Errors
    /// When reading ([`file::InputFailed`](crate::file::InputFailed)) or writing
    /// fails, or the input changed meanwhile
    /// ([`file::Changed`](crate::file::Changed)); what was written by then is no
    /// envelope.
    pub fn encrypt_file(self, input: &File, output: &File) -> io::Result<u64> {
        let (meter, threads) = (self.meter.clone(), self.threads);
        let (key, start) = self.start();
        bulk::file::seal(&key, &start, &meter, threads, input, output)
    }

    /// Writes the header to `output` and returns a writer for the plaintext,
    /// which must be [finished](EncryptWriter::finish).
    ///
    /// # Errors
    /// When writing fails.
    pub fn writer<W: Write>(self, mut output: W) -> io::Result<EncryptWriter<W>> {
        let meter = self.meter.clone();
        let (key, start) = self.start();
        output.write_all(&start)?;
        Ok(EncryptWriter::new(output, &key, meter))
    }

    /// As [`Encryptor::writer`], for `tokio::io`.
    ///
    /// # Errors
    /// When writing fails.
    #[cfg(feature = "tokio")]
    pub async fn async_writer<W: tokio::io::AsyncWrite + Unpin>(
        self,
        mut output: W,
    ) -> io::Result<crate::AsyncEncryptWriter<W>> {
        let meter = self.meter.clone();
        let (key, start) = self.start();
        tokio::io::AsyncWriteExt::write_all(&mut output, &start).await?;
        Ok(crate::AsyncEncryptWriter::new(output, &key, meter))
    }

    /// The payload's key, and the bytes that stand before its first segment.
    fn start(self) -> (SealKey, Vec<u8>) {
        let (key, floe_header) = SealKey::create(
            self.payload_key.expose(),
            self.floe_iv,
            &self.payload_aad,
            self.segment_len,
            self.backend,
        );
        let mut start = match self.detached {
            true => DetachedPrefix { envelope_id: self.envelope_id }.encode().to_vec(),
            false => self.header,
        };
        start.extend(floe_header);
        (key, start)
    }

    /// How long is what stands before FLOE's header.
    fn start_len(&self) -> usize {
        match self.detached {
            true => DETACHED_PREFIX_LEN,
            false => self.header.len(),
        }
    }
}

/// What an [`Encryptor`] is made of.
#[must_use = "nothing happens before `prepare`"]
pub struct EncryptorBuilder {
    keyslots: Vec<(ProviderKey, CustomerKey)>,
    context: EncryptionContext,
    segment_len: Option<u32>,
    backend: Option<Backend>,
    threads: NonZeroUsize,
    read_back: bool,
}

impl EncryptorBuilder {
    /// Binds the envelope to `context`. It stands readable in the header and
    /// in the holders' logs.
    pub fn context(mut self, context: EncryptionContext) -> Self {
        self.context = context;
        self
    }

    /// Adds another way in: *any* keyslot opens the envelope, and each needs
    /// both of its holders.
    pub fn keyslot(mut self, provider: ProviderKey, customer: CustomerKey) -> Self {
        self.keyslots.push((provider, customer));
        self
    }

    /// Length of an encrypted segment in bytes: a power of two from 4 KiB to
    /// 16 MiB. The default is [`DEFAULT_SEGMENT_LEN`].
    pub fn segment_len(mut self, bytes: u32) -> Self {
        self.segment_len = Some(bytes);
        self
    }

    /// Which AES-GCM implementation seals. Without this it is what the
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

    /// Takes holders at their word. By default each holder must unwrap what it
    /// wrapped before anything is encrypted, for a share that cannot be
    /// unwrapped is data lost. For a holder whose credentials may only wrap; one
    /// that can do nothing else ([`KeyHolder::only_wraps`], an exported public
    /// key) is not asked in any case.
    ///
    /// [`KeyHolder::only_wraps`]: twinlock_keys::KeyHolder::only_wraps
    pub fn without_read_back(mut self) -> Self {
        self.read_back = false;
        self
    }

    /// [`EncryptorBuilder::prepare`] for callers without an async runtime: it
    /// runs one of its own and waits.
    ///
    /// # Errors
    /// As [`EncryptorBuilder::prepare`].
    ///
    /// # Panics
    /// When called from inside an async runtime.
    #[cfg(feature = "blocking")]
    pub fn prepare_blocking(self) -> Result<Encryptor, PrepareError> {
        crate::blocking::wait_for(self.prepare())?
    }

    /// The key step: each holder wraps a fresh share and shows that it can
    /// unwrap it. All keyslots and both sides are asked side by side.
    ///
    /// # Errors
    /// When a holder fails or its key is of no use here; nothing is written.
    pub async fn prepare(self) -> Result<Encryptor, PrepareError> {
        let recipe = self.checked()?;
        let pairs = recipe.new_pairs().await?;
        recipe.encryptor(&pairs, Meter::default())
    }

    /// For many envelopes whose keyslots are of one share pair each. No holder
    /// is asked yet. Read at [`Batch`] what that costs.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn batch(self, limits: PairLimits) -> Result<Batch, PrepareError> {
        Ok(Batch::new(self.checked()?, limits))
    }

    fn checked(self) -> Result<Recipe, PrepareError> {
        if self.keyslots.len() > MAX_KEYSLOTS {
            return Err(InvalidHeader::KeyslotCount(self.keyslots.len()).into());
        }
        for (provider, customer) in &self.keyslots {
            check_uris(provider.holder().uri(), customer.holder().uri())?;
        }
        Ok(Recipe {
            segment_len: checked_segment_len(self.segment_len.unwrap_or(DEFAULT_SEGMENT_LEN))?,
            backend: chosen_backend(self.backend)?,
            threads: self.threads,
            keyslots: self.keyslots,
            context: self.context,
            read_back: self.read_back,
        })
    }
}

/// The settings of a builder that fit together.
pub(crate) struct Recipe {
    keyslots: Vec<(ProviderKey, CustomerKey)>,
    context: EncryptionContext,
    segment_len: SegmentLen,
    backend: Backend,
    threads: NonZeroUsize,
    read_back: bool,
}

impl Recipe {
    /// The key step: a new pair for each keyslot.
    pub(crate) async fn new_pairs(&self) -> Result<Vec<NewPair>, PrepareError> {
        try_join_all(self.keyslots.iter().map(|(provider, customer)| {
            NewPair::make(provider, customer, &self.context, self.read_back)
        }))
        .await
    }

    /// An encryptor with a new envelope id and DEK, which `pairs` open.
    pub(crate) fn encryptor(
        &self,
        pairs: &[NewPair],
        meter: Meter,
    ) -> Result<Encryptor, PrepareError> {
        let dek = Secret::<32>::random()?;
        let mut drawn = Drawn::new(EnvelopeId::LEN + FLOE_IV_LEN + DEK_NONCE_LEN * pairs.len())?;
        let envelope_id = EnvelopeId(drawn.take());
        let floe_iv = drawn.take();
        let keyslots =
            pairs.iter().map(|pair| pair.keyslot(&envelope_id, &drawn.take(), &dek).into());
        let header = Header::new(envelope_id, self.context.clone(), keyslots.collect())?;
        let (payload_key, header_key) =
            schedule::payload_and_header_key(dek.expose(), &envelope_id);
        let payload_aad =
            schedule::payload_aad(header.payload_suite(), &envelope_id, header.context());
        Ok(Encryptor {
            header: header.encode(Padding::Standard)?.sign(&header_key),
            detached: false,
            envelope_id,
            payload_key: Secret::copy_of(&payload_key),
            payload_aad,
            floe_iv,
            segment_len: self.segment_len,
            backend: self.backend,
            threads: self.threads,
            meter,
        })
    }
}

/// Why nothing could be encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// A URI that its holder has not resolved to the name of a key.
    #[error("{0} is an alias: a header names keys, so its holder has to resolve it first")]
    Alias(KeyUri),
    /// `TWINLOCK_AEAD` names no backend of this build.
    #[error("TWINLOCK_AEAD: {0}")]
    Backend(#[from] BackendError),
    /// The header would not be one of this format.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// Too many keyslots, or too large ones, for the header's 64 KiB.
    #[error(transparent)]
    HeaderTooLarge(#[from] HeaderTooLarge),
    /// A holder refused or failed.
    #[error("the {side} key {uri}: {source}")]
    Holder {
        /// Whose holder.
        side: Side,
        /// Which key.
        uri: KeyUri,
        /// What it said.
        source: HolderError,
    },
    /// A holder answered with something that a header cannot carry.
    #[error("the key {uri} gave an answer that does not fit a header: {source}")]
    HolderAnswer {
        /// Which key.
        uri: KeyUri,
        /// What does not fit.
        source: InvalidShareSlot,
    },
    /// The system has no random bytes to give.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// No async runtime could be started for a blocking call.
    #[cfg(feature = "blocking")]
    #[error(transparent)]
    Runtime(#[from] crate::blocking::RuntimeError),
    /// A holder unwraps what it has just wrapped to something else.
    #[error(
        "the {side} key {uri} does not give back the share that it wrapped: \
         data encrypted with it would be lost, so nothing was"
    )]
    ReadBack {
        /// Whose holder.
        side: Side,
        /// Which key.
        uri: KeyUri,
    },
    /// Provider and customer are the same key.
    #[error("{uri} is given as the provider and as the customer key: two holders need two keys")]
    SameKey {
        /// That key.
        uri: KeyUri,
    },
    /// Not a power of two from 4 KiB to 16 MiB.
    #[error("a segment has a power of two from 4096 to 16777216 bytes, not {0}")]
    SegmentLen(u32),
}

pub(crate) fn check_uris(provider: &KeyUri, customer: &KeyUri) -> Result<(), PrepareError> {
    for uri in [provider, customer] {
        if uri.is_alias() {
            return Err(PrepareError::Alias(uri.clone()));
        }
        if uri.scheme() == Scheme::File {
            tracing::warn!(key = %uri, "a key in a file is for development: whoever reads the file holds it");
        }
    }
    if provider.same_key(customer) {
        return Err(PrepareError::SameKey { uri: provider.clone() });
    }
    Ok(())
}

fn checked_segment_len(bytes: u32) -> Result<SegmentLen, PrepareError> {
    accepted_segment_len(bytes as usize)
        .then(|| SegmentLen::new(bytes).ok())
        .flatten()
        .ok_or(PrepareError::SegmentLen(bytes))
}

/// The segment lengths that envelopes have: powers of two, 4 KiB to 16 MiB.
pub(crate) fn accepted_segment_len(bytes: usize) -> bool {
    bytes.is_power_of_two()
        && (MIN_SEGMENT_LEN as usize..=MAX_SEGMENT_LEN as usize).contains(&bytes)
}

/// What the caller chose, else what the environment says, else the fastest.
pub(crate) fn chosen_backend(chosen: Option<Backend>) -> Result<Backend, BackendError> {
    match (chosen, std::env::var("TWINLOCK_AEAD")) {
        (Some(backend), _) => Ok(backend),
        (None, Ok(name)) if !name.is_empty() => name.parse(),
        (None, _) => Ok(Backend::default()),
    }
}

/// As many threads as the process may use processors; one if nobody can say.
pub(crate) fn available_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
