use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use twinlock::Backend;
use twinlock::file::Headers;

use crate::edit::{Edit, edited};
use crate::envelope::{ORIGINALS, at_once, decryptor};

/// What somebody put beside a file as its journal closes no file that opens,
/// and opens none that does not, unless it is what a rewrap would have put
/// there: for the bytes as they are, and for what a program of edits makes of
/// the file's own header.
pub fn journal(bytes: &[u8]) {
    check(bytes);
    if let Ok(edits) = Vec::<Edit>::arbitrary(&mut Unstructured::new(bytes)) {
        let header = |original: usize| vec![ORIGINALS[original].pieces[0].clone()];
        check(&edited(&header(0), &header(1), &edits));
    }
}

fn check(journal: &[u8]) {
    fs::write(&FILES.journal_of_whole, journal).expect("a journal");
    assert!(opens(&FILES.whole), "a journal closed a file");
    fs::write(&FILES.journal_of_torn, journal).expect("a journal");
    let is_its_header = journal == ORIGINALS[0].pieces[0];
    assert_eq!(opens(&FILES.torn), is_its_header, "only the header itself mends a torn one");
}

/// Whether the file opens, to the plaintext that was encrypted.
fn opens(path: &PathBuf) -> bool {
    let mut file = File::open(path).expect("a file of ours");
    let headers = Headers::read(&file, path).expect("a header that can be told apart");
    let payload = headers.header_len() as u64;
    let Ok(envelope) = at_once(headers.open(&decryptor(Backend::default()))) else {
        return false;
    };
    file.seek(SeekFrom::Start(payload)).expect("a file can seek");
    let mut plaintext = Vec::new();
    let reader = envelope.reader(file).map(|mut reader| reader.read_to_end(&mut plaintext));
    reader.and_then(|result| result).expect("the payload is whole");
    assert_eq!(plaintext, ORIGINALS[0].plaintext());
    true
}

/// An envelope, and the same one as a rewrap leaves it that died while it wrote
/// the header: each in a folder of this process.
struct Files {
    whole: PathBuf,
    journal_of_whole: PathBuf,
    torn: PathBuf,
    journal_of_torn: PathBuf,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let name = format!("twinlock-fuzz-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let whole = ORIGINALS[0].pieces.concat();
    let mut torn = whole.clone();
    torn[ORIGINALS[0].pieces[0].len() - 1] ^= 1; // in the header's tag
    fs::write(folder.join("whole"), whole).expect("a file");
    fs::write(folder.join("torn"), torn).expect("a file");
    Files {
        whole: folder.join("whole"),
        journal_of_whole: folder.join(".whole.twinlock-journal"),
        torn: folder.join("torn"),
        journal_of_torn: folder.join(".torn.twinlock-journal"),
    }
});
