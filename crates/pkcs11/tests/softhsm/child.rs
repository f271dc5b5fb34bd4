//! What tests have done by another process.

use cryptoki::object::Attribute;

use crate::support::{SoftHsm, TOKEN, block_on, options, parse};

/// A test only in form: it does nothing unless another test tells it to.
#[test]
fn does_what_it_is_told() {
    let Ok(action) = std::env::var("TWINLOCK_TEST_ACTION") else { return };
    let hsm = SoftHsm::of_this_process().expect("a process that a test started");
    let uri = std::env::var("TWINLOCK_TEST_URI").expect("set together with the action");
    match action.as_str() {
        "check" => check(&uri),
        "create" => create(&hsm, &uri),
        "delete" => delete(&hsm, &uri),
        "hold-locks" => crate::hanging::hold_locks(&hsm),
        "replace" => {
            delete(&hsm, &uri);
            create(&hsm, &uri);
        }
        other => panic!("no such action: {other}"),
    }
}

fn check(uri: &str) {
    if let Err(error) = block_on(twinlock_pkcs11::check_key(&parse(uri), options())) {
        panic!("{:?}: {error}", error.kind());
    }
}

fn create(hsm: &SoftHsm, path: &str) {
    block_on(twinlock_pkcs11::create_kek(&hsm.uri(path), options())).unwrap();
}

fn delete(hsm: &SoftHsm, path: &str) {
    let uri = hsm.uri(path);
    let session = hsm.raw_session(TOKEN);
    let label = Attribute::Label(uri.object().unwrap().as_bytes().to_vec());
    for object in session.find_objects(&[label]).unwrap() {
        session.destroy_object(object).unwrap();
    }
}
