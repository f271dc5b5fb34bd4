//! Where a segment stands: its position, and whether it is the last.

use std::fmt;

use thiserror::Error;

/// The most segments that one payload may have: `AEAD_MAX_SEGMENTS`, 2^40.
pub(crate) const MAX_SEGMENTS: u64 = 1 << 40;

/// A segment's number, counted from 0; below 2^40.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(u64);

impl Position {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn new(position: u64) -> Option<Self> {
        (position < MAX_SEGMENTS).then_some(Self(position))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a segment is the last of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finality {
    /// Others follow.
    NotLast,
    /// It ends the payload.
    Last,
}

/// A position and its finality: what a segment is bound to.
///
/// Made only by a [`Sequence`] or a [`Layout`](crate::Layout), and neither
/// `Copy` nor `Clone`: sealing consumes it.
///
/// ```compile_fail,E0451
/// // Places are not made by hand.
/// let position = twinlock_floe::Sequence::new().last().position();
/// let place = twinlock_floe::Place { position, finality: twinlock_floe::Finality::Last };
/// ```
///
/// ```compile_fail,E0382
/// // One place is sealed once.
/// use twinlock_floe::{Place, Sealer, SegmentIv};
/// fn twice(sealer: &mut Sealer, place: Place, iv: [u8; 12], buf: &mut [u8]) {
///     sealer.seal(place, SegmentIv::new(iv), buf);
///     sealer.seal(place, SegmentIv::new(iv), buf);
/// }
/// ```
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Place {
    position: Position,
    finality: Finality,
}

impl Place {
    /// The segment's number.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether it is the last.
    pub fn finality(&self) -> Finality {
        self.finality
    }

    pub(crate) fn new(position: Position, finality: Finality) -> Self {
        Self { position, finality }
    }

    /// The segment's AEAD AAD: `I2BE(position, 8) || 0x00`, or `0x01` at the end.
    pub(crate) fn aad(&self) -> [u8; 9] {
        let mut aad = [0; 9];
        aad[..8].copy_from_slice(&self.position.0.to_be_bytes());
        aad[8] = u8::from(self.finality == Finality::Last);
        aad
    }
}

/// The places of a stream in order, each given once.
///
/// The last one consumes the sequence, so nothing can follow it:
///
/// ```compile_fail,E0382
/// let mut sequence = twinlock_floe::Sequence::new();
/// let end = sequence.last();
/// let beyond = sequence.next();
/// ```
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
}

impl Sequence {
    /// Starts at position 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The place of the next segment, which is not the last.
    ///
    /// # Errors
    ///
    /// [`TooManySegments`] at position 2^40 - 1, which can only be the last.
    #[expect(clippy::should_implement_trait, reason = "an iterator could be asked after the end")]
    pub fn next(&mut self) -> Result<Place, TooManySegments> {
        if self.next == MAX_SEGMENTS - 1 {
            return Err(TooManySegments);
        }
        let place = Place::new(Position(self.next), Finality::NotLast);
        self.next += 1;
        Ok(place)
    }

    /// The next `len` places, none of which is the last.
    ///
    /// # Errors
    ///
    /// [`TooManySegments`] when they would reach position 2^40 - 1, which can
    /// only be the last.
    pub fn run(&mut self, len: u64) -> Result<Run, TooManySegments> {
        let start = self.next;
        match start.checked_add(len) {
            Some(end) if end < MAX_SEGMENTS => {
                self.next = end;
                Ok(Run { next: start, end })
            }
            _ => Err(TooManySegments),
        }
    }

    /// The place of the last segment.
    pub fn last(self) -> Place {
        Place::new(Position(self.next), Finality::Last)
    }

    #[cfg(test)]
    pub(crate) fn starting_at(position: Position) -> Self {
        Self { next: position.0 }
    }
}

/// Places in a row that are not the last, each given once. From
/// [`Sequence::run`], for whoever seals some segments while others are read.
#[derive(Debug)]
pub struct Run {
    next: u64,
    end: u64,
}

impl Iterator for Run {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        if self.next == self.end {
            return None;
        }
        let place = Place::new(Position(self.next), Finality::NotLast);
        self.next += 1;
        Some(place)
    }
}

/// A payload has at most 2^40 segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the payload is longer than FLOE's 2^40 segments")]
pub struct TooManySegments;

/// How many segments share one AES key: `AEAD_ROTATION_MASK`.
///
/// Always [`Rotation::FLOE`] but in the known-answer tests, whose rotation
/// comes sooner. It is not part of the encoded parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    bits: u32,
}

impl Rotation {
    /// A new key every 2^20 segments.
    pub(crate) const FLOE: Self = Self { bits: 20 };

    #[cfg(test)]
    pub(crate) const fn every_power_of_two(bits: u32) -> Self {
        Self { bits }
    }

    /// `MASK(position, AEAD_ROTATION_MASK)`: the first position under this key.
    pub(crate) fn first_position(self, position: Position) -> u64 {
        position.0 >> self.bits << self.bits
    }
}
