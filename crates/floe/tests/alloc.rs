//! Sealing and opening a segment allocates nothing.
//!
//! A test binary of its own, because it replaces the allocator: that takes
//! `unsafe`, which the library forbids. Counts Rust's allocations; what AWS-LC
//! does in C is not seen here.

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;

use twinlock_floe::{Backend, OpenKey, SealKey, SegmentIv, SegmentLen, Sequence};

struct Counting;

thread_local! {
    // Const and without a destructor: reading it allocates nothing itself.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, memory: Memory) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn no_allocation_per_segment() {
    let segment_len = SegmentLen::new(4096).unwrap();
    for &backend in Backend::available() {
        let (seal_key, header) = SealKey::create(&[1; 32], [2; 32], b"aad", segment_len, backend);
        let open_key = OpenKey::open(&[1; 32], b"aad", &header, backend).unwrap();
        let (mut sealer, mut opener) = (seal_key.sealer(), open_key.opener());
        let (mut sealing, mut opening) = (Sequence::new(), Sequence::new());
        let mut segment = vec![0; 4096];
        let mut plaintext = vec![0; 4064];
        let mut both = || {
            let iv = SegmentIv::new([3; 12]);
            sealer.seal(sealing.next().unwrap(), iv, &mut segment).unwrap();
            opener.open(opening.next().unwrap(), &mut segment).unwrap();
            sealer.seal_from(sealing.next().unwrap(), iv, &plaintext, &mut segment).unwrap();
            opener.open_into(opening.next().unwrap(), &segment, &mut plaintext).unwrap();
        };
        both(); // derives the AES keys
        let allocated = allocations(|| (0..1000).for_each(|_| both()));
        assert_eq!(allocated, 0, "{backend}");
    }
}

#[test]
fn no_allocation_for_a_forged_segment() {
    let segment_len = SegmentLen::new(4096).unwrap();
    for &backend in Backend::available() {
        let (_, header) = SealKey::create(&[1; 32], [2; 32], b"aad", segment_len, backend);
        let mut opener = OpenKey::open(&[1; 32], b"aad", &header, backend).unwrap().opener();
        let mut segment = vec![0xFF; 4096];
        let mut forged = || opener.open(Sequence::new().next().unwrap(), &mut segment).is_err();
        assert!(forged());
        assert_eq!(allocations(|| assert!(forged())), 0, "{backend}");
        let (segment, mut plaintext) = (vec![0xFF; 4096], vec![0; 4064]);
        let mut forged = || {
            let place = Sequence::new().next().unwrap();
            opener.open_into(place, &segment, &mut plaintext).is_err()
        };
        assert_eq!(allocations(|| assert!(forged())), 0, "{backend}");
    }
}
