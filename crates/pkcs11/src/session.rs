//! A worker's session with a token, and the keys it has found.

use std::collections::HashMap;
use std::sync::Arc;

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use twinlock_keys::Pkcs11Uri;

use crate::ivs::Ivs;
use crate::login::Login;
use crate::lookup::{self, KeyName};
use crate::module::Module;
use crate::one_shot::OneShot;
use crate::vendors::{Vendor, vendor_of};
use crate::{KeyFacts, Pkcs11Error, TokenFacts, slots};

/// What a worker needs to open a session whenever it has none.
pub(crate) struct Opener {
    pub(crate) module: Arc<Module>,
    pub(crate) uri: Pkcs11Uri,
    pub(crate) login: Arc<Login>,
    pub(crate) read_write: bool,
}

impl Opener {
    /// Finds the token anew (it may have moved to another slot), opens a
    /// session and logs in. It was there once, so if it is missing now it went
    /// away, and may come back.
    pub(crate) fn open(&self) -> Result<TokenSession, Pkcs11Error> {
        let module = self.module.context()?;
        let one_shot = self.module.one_shot()?;
        let (slot, token) =
            slots::find(&module, &self.uri).map_err(Pkcs11Error::missing_into_gone)?;
        let session = match self.read_write {
            true => module.open_rw_session(slot),
            false => module.open_ro_session(slot),
        };
        let what = format!("open a session with {:?}", token.label);
        let session = session.map_err(|error| Pkcs11Error::of_call(error, &what))?;
        self.login.log_in(&session, &module)?;
        let vendor = vendor_of(&token.manufacturer, &token.model);
        let (login, ivs, handles) = (Arc::clone(&self.login), Ivs::default(), HashMap::new());
        Ok(TokenSession { session, token, vendor, one_shot, ivs, module, login, handles })
    }
}

/// An open session, logged in if the token wants that.
pub(crate) struct TokenSession {
    pub(crate) session: Session,
    pub(crate) token: TokenFacts,
    pub(crate) vendor: &'static Vendor,
    pub(crate) one_shot: OneShot,
    pub(crate) ivs: Ivs,
    module: Pkcs11,
    login: Arc<Login>,
    handles: HashMap<KeyName, ObjectHandle>,
}

impl TokenSession {
    /// Every object that fits `template`.
    ///
    /// It logs in first if the login was lost: private objects are invisible
    /// then, and would seem to be deleted.
    pub(crate) fn find(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Pkcs11Error> {
        self.login.log_in(&self.session, &self.module)?;
        self.session
            .find_objects(template)
            .map_err(|error| Pkcs11Error::of_call(error, "look for the key"))
    }

    /// Fails if the login was lost. What a token hides from whoever is not logged
    /// in is not missing.
    pub(crate) fn check_login(&self) -> Result<(), Pkcs11Error> {
        self.login.check(&self.session)
    }

    /// Does `work` with the key that `name` means. Its handle is looked up
    /// once, together with `check` of what the token says about the key; when
    /// the object turns out to be another one by now, once more. All that use a
    /// name have the same check; another RSA key has another name.
    pub(crate) fn with_key<T>(
        &mut self,
        name: &KeyName,
        check: impl Fn(&KeyFacts) -> Result<(), Pkcs11Error>,
        work: impl Fn(&mut Self, ObjectHandle) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        if let Some(handle) = self.handles.get(name).copied() {
            match work(self, handle) {
                Err(error) if self.vendor.is_stale_handle(&error) => {
                    tracing::info!(%error, "looking the key up again");
                    self.handles.remove(name);
                }
                result => return result,
            }
        }
        let (handle, key) = lookup::find(self, name)?;
        check(&key)?;
        self.handles.insert(name.clone(), handle);
        work(self, handle)
    }

    /// Finds the key that `name` means and checks what the token says about it,
    /// so that [`TokenSession::with_key`] need not: under the name that it has
    /// now that it is known which key it is.
    pub(crate) fn find_key(
        &mut self,
        name: &KeyName,
        check: impl Fn(&KeyFacts) -> Result<(), Pkcs11Error>,
    ) -> Result<KeyFacts, Pkcs11Error> {
        let (handle, key) = lookup::find(self, name)?;
        check(&key)?;
        // A handle that is known stays: it was checked for a key that is in use.
        self.handles.entry(name.clone().of_found(&key)).or_insert(handle);
        Ok(key)
    }
}
