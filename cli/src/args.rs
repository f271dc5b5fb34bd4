//! The words that are typed. What they mean together is `settings.rs`'s matter.

mod examples;
pub(crate) mod values;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;

use examples::{
    AFTER_HELP, CONFIG_SHOW_EXAMPLES, DECRYPT_EXAMPLES, DOCTOR_EXAMPLES, ENCRYPT_EXAMPLES,
    INIT_EXAMPLES, INSPECT_EXAMPLES, KEYS_CHECK_EXAMPLES, KEYS_CREATE_EXAMPLES,
    KEYS_EXPORT_PUBLIC_EXAMPLES, KEYS_LIST_EXAMPLES, LOGIN_EXAMPLES, PROVE_EXAMPLES,
    REENCRYPT_EXAMPLES, REWRAP_EXAMPLES, VERIFY_EXAMPLES,
};
use values::{ByteRange, ContextPair, KekType};

/// Encrypts files so that they open only with two keys held by two holders.
///
/// The provider (a cloud's key manager) holds one key, you hold the other in a
/// token behind PKCS#11. Neither alone opens a file.
#[derive(Debug, Parser)]
#[command(
    name = "twinlock",
    version = short_version(),
    long_version = long_version(),
    arg_required_else_help = true,
    after_long_help = AFTER_HELP
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Debug, ClapArgs)]
pub(crate) struct CommonArgs {
    /// Report as one line of JSON (docs/cli.md has the fields)
    ///
    /// The report goes to stdout, or to stderr when the data goes to stdout.
    #[arg(long, global = true, help_heading = "Reports")]
    pub(crate) json: bool,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Reports")]
    pub(crate) quiet: bool,

    /// Say more on stderr; twice for more still
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Reports")]
    pub(crate) verbose: u8,

    /// The configuration file [env: TWINLOCK_CONFIG]
    ///
    /// Without it: $XDG_CONFIG_HOME/twinlock/config.toml, or
    /// ~/.config/twinlock/config.toml.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Keys")]
    pub(crate) config: Option<PathBuf>,

    /// The profile of the configuration to use [env: TWINLOCK_PROFILE]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Keys")]
    pub(crate) profile: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Init(InitArgs),
    Config(ConfigArgs),
    Doctor(DoctorArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    Keys(KeysArgs),
    Encrypt(EncryptArgs),
    Decrypt(DecryptArgs),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Prove(ProveArgs),
    Rewrap(RewrapArgs),
    Reencrypt(ReencryptArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Which keys to use.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Keys")]
pub(crate) struct KeyArgs {
    /// The provider's key [env: TWINLOCK_PROVIDER]
    ///
    /// aws-kms://<key ARN>, aws-kms://alias/<name>,
    /// gcp-kms://projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k> where it
    /// is built in, vault://<host[:port]>/<mount>/keys/<name>, or for development
    /// file:///path/to/kek.
    #[arg(long, value_name = "URI")]
    pub(crate) provider: Option<String>,

    /// The customer's key [env: TWINLOCK_CUSTOMER]
    ///
    /// pkcs11:token=<label>;object=<label> (RFC 7512), where needed with
    /// ?module-path=<path>&pin-source=file:<path>; an exported public key with
    /// ?public-key=file:<path>&spki-sha256=<hex>; one of a DKE service,
    /// dke+https://<host[:port]>/[prefix/]<name>, with its pin in the profile; or
    /// for development file:///path/to/kek.
    #[arg(long, value_name = "URI")]
    pub(crate) customer: Option<String>,

    /// One more pair of keys, any of which opens the file; repeatable
    #[arg(long = "keyslot", value_name = "PROVIDER_URI,CUSTOMER_URI")]
    pub(crate) keyslots: Vec<String>,
}

/// Encrypt files
///
/// FILE becomes FILE.twl; a pipe (`-`) goes to stdout. Mode and time of
/// modification are kept, and FILE is never deleted. A file appears only when
/// it is whole. Several files have the same encryption context and, up to a
/// bound, one share pair: whoever obtains its two shares once opens all of them,
/// and the holders' logs have one line for them.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = ENCRYPT_EXAMPLES)]
pub(crate) struct EncryptArgs {
    /// The files to encrypt, or - for stdin
    #[arg(value_name = "FILE", required_unless_present = "files_from")]
    pub(crate) inputs: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    #[command(flatten)]
    pub(crate) files: FilesArgs,

    /// Of several files, at most so many under one share pair [default: 65536]
    ///
    /// A pair also ends after 1 TiB of plaintext, and after an hour.
    #[arg(long, value_name = "N", help_heading = "Many files")]
    pub(crate) batch_files: Option<NonZeroU64>,

    /// Keep the header apart, in a file of its own
    ///
    /// The output is then the payload alone, and neither opens without the
    /// other. A later rewrap needs the header only, wherever the payload is.
    #[arg(long, conflicts_with_all = ["recursive", "files_from"])]
    pub(crate) detach: bool,

    /// The new file for the header; the output's name with .header without it
    ///
    /// One that exists is never replaced, --force or not: it may be the only
    /// way into another payload.
    #[arg(
        long,
        value_name = "FILE",
        requires = "detach",
        conflicts_with_all = ["recursive", "files_from"]
    )]
    pub(crate) header: Option<PathBuf>,

    /// Bind the file to this pair; repeatable
    ///
    /// The encryption context stands readable in the file and in the holders'
    /// logs, and who decrypts has to expect it. The object's name is a good
    /// one: storage that swaps two files is then noticed.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) context: Vec<ContextPair>,

    #[command(flatten)]
    pub(crate) keys: KeyArgs,

    /// Use so many threads; as many as there are processors without it
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Do not ask the holders to unwrap what they have just wrapped
    ///
    /// For credentials that may only wrap. A wrapped share that its holder
    /// cannot unwrap is data lost, and without this check nobody notices.
    #[arg(long, help_heading = "Keys")]
    pub(crate) no_read_back: bool,
}

impl EncryptArgs {
    /// The only one, where there are not many.
    pub(crate) fn input(&self) -> &Path {
        self.inputs.first().expect("clap wants one without --files-from")
    }
}

/// Decrypt files
///
/// FILE.twl becomes FILE; a pipe (`-`) or a range goes to stdout. A file
/// appears only when all of it was verified.
///
/// To a pipe, verified segments may have gone before a later one fails: what
/// reads it has then processed an authentic beginning of a file that was cut
/// short. Use `set -o pipefail` and look at the exit code, or write to a file
/// with -o.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = DECRYPT_EXAMPLES)]
pub(crate) struct DecryptArgs {
    /// The files to decrypt, or - for stdin
    #[arg(value_name = "FILE", required_unless_present = "files_from")]
    pub(crate) inputs: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    #[command(flatten)]
    pub(crate) files: FilesArgs,

    /// Decrypt only these bytes of the plaintext: A..B, A.. or ..B
    ///
    /// From byte A, counted from 0, to before byte B. Only the segments that
    /// hold them are read, and verified. A B beyond the end means the end; an A
    /// beyond the end is an error.
    #[arg(long, value_name = "A..B", conflicts_with_all = ["recursive", "files_from"])]
    pub(crate) range: Option<ByteRange>,

    /// The header, if it was kept apart from the payload, which FILE then is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recursive", "files_from"])]
    pub(crate) header: Option<PathBuf>,

    /// Use so many threads; as many as there are processors without it
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) expected: ExpectedArgs,

    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

impl DecryptArgs {
    /// The only one, where there are not many.
    pub(crate) fn input(&self) -> &Path {
        self.inputs.first().expect("clap wants one without --files-from")
    }
}

/// Several files in one run.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Many files")]
pub(crate) struct FilesArgs {
    /// Take all files below the folders FILE, into the folder -o
    ///
    /// -o gets what is in one folder, and of several a folder each. Links are not
    /// followed.
    #[arg(short, long, requires = "output")]
    pub(crate) recursive: bool,

    /// With -r: only files whose name fits, or whose path does; repeatable
    ///
    /// A pattern without / is of a name, one with / of the path below the
    /// folder: *.pdf, 2024/*, **/tmp/*.{log,txt}. Quote it.
    #[arg(long, value_name = "GLOB", requires = "recursive", conflicts_with = "files_from")]
    pub(crate) include: Vec<String>,

    /// With -r: no files or folders that fit, --include or not; repeatable
    #[arg(long, value_name = "GLOB", requires = "recursive", conflicts_with = "files_from")]
    pub(crate) exclude: Vec<String>,

    /// Take the files whose names stand in this file, or in stdin with -
    ///
    /// A name in each line. With -o, a/b goes to OUT/a/b, /a/b too, and a name
    /// with .. is refused.
    #[arg(long, value_name = "LIST", conflicts_with_all = ["recursive", "inputs"])]
    pub(crate) files_from: Option<PathBuf>,

    /// The names of --files-from end with NUL, as those of find -print0
    #[arg(short = '0', long, requires = "files_from")]
    pub(crate) null: bool,

    /// Leave outputs alone that an earlier run has made
    ///
    /// One that is there counts as done if it is verified to be of its input, as
    /// far as length, times and keys tell. Without this flag one that is there
    /// is an error of its file.
    #[arg(long, conflicts_with = "force")]
    pub(crate) resume: bool,

    /// Do not wait until files are on the disk
    ///
    /// A power cut may then lose files that were said to be done, or leave them
    /// empty. They keep the time at which they were made.
    #[arg(long)]
    pub(crate) no_sync: bool,
}

impl FilesArgs {
    /// True if a run of `inputs` is one of many files, of which each can fail by
    /// itself.
    pub(crate) fn are_many(&self, inputs: &[PathBuf]) -> bool {
        self.recursive || self.files_from.is_some() || inputs.len() > 1
    }
}

/// Where output goes.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct OutputArgs {
    /// Write to this file, or to stdout with -; several files, to this folder
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Replace the output file if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

/// What a file must say about itself before any holder is asked.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct ExpectedArgs {
    /// The file's encryption context must have this pair; repeatable
    ///
    /// Without any, only a file without encryption context is accepted.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) context: Vec<ContextPair>,

    /// Accept whatever encryption context the file has
    ///
    /// Storage can then hand out another of your files unnoticed.
    #[arg(long, conflicts_with = "context")]
    pub(crate) any_context: bool,

    /// Refuse headers that were rewrapped less often than this
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) min_generation: u64,
}

/// Show what a file says about itself, without any key
///
/// Nothing of it is verified: whoever stored the file could have changed it.
/// `twinlock verify` verifies.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = INSPECT_EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The file to inspect, or - for stdin
    #[arg(value_name = "FILE", required_unless_present = "header")]
    pub(crate) input: Option<PathBuf>,

    /// The header, if it was kept apart; FILE is then the payload, if it is here
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,
}

/// Verify every tag of a file, and write nothing
///
/// Asks both holders, as decrypting does, and reads the file to its end.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = VERIFY_EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The file to verify, or - for stdin
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// The header, if it was kept apart from the payload, which FILE then is
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) expected: ExpectedArgs,

    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// Try to open a file with each key alone, and show that only both open it
///
/// Makes real calls: each holder is asked to unwrap both wrapped shares, its
/// own and the other's, and every KEK that can be computed from what was
/// obtained is tried on the wrapped DEK. With --json it prints the evidence,
/// with the holders' own answers (request ids, CKR codes), as a document to be
/// filed. It reads the header alone.
///
/// Exits with 1 when any outcome is not the expected one.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = PROVE_EXAMPLES)]
pub(crate) struct ProveArgs {
    /// The file to try, or - for stdin
    #[arg(value_name = "FILE", required_unless_present = "header")]
    pub(crate) input: Option<PathBuf>,

    /// The header, if it was kept apart; FILE is then the payload, if it is here
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// Change the keys of a file, without its payload
///
/// Reads and writes the header alone, in place where it fits. --provider and
/// --customer name keys that the file has (flags, variables or the profile, as
/// for decrypting), and the other flags what is to change. Each keyslot that
/// changes gets new shares, which both of its holders must unwrap once. Without
/// any such flag it only finishes a rewrap that was cut short: the file opens
/// meanwhile, with the old keys or the new ones.
///
/// Rewrap is not revocation: an old copy of the header still opens the payload
/// with the old keys. Only encrypting anew revokes: `twinlock reencrypt`.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = REWRAP_EXAMPLES)]
pub(crate) struct RewrapArgs {
    /// The file to change, or with -r the folder
    #[arg(value_name = "FILE", required_unless_present = "header")]
    pub(crate) input: Option<PathBuf>,

    /// Change all files below the folder FILE, one after the other
    ///
    /// What is no envelope is passed over, and --from-key selects: holders are
    /// asked for no other file. Files with the same encryption context get the
    /// same new share pair, up to a bound: whoever obtains its two shares once
    /// opens all of them.
    #[arg(short, long, conflicts_with = "header", help_heading = "Folders")]
    pub(crate) recursive: bool,

    /// With -r: at most so many files under one new share pair
    ///
    /// A pair also ends after an hour.
    #[arg(
        long,
        value_name = "N",
        requires = "recursive",
        default_value = "65536",
        help_heading = "Folders"
    )]
    pub(crate) batch_files: NonZeroU64,

    /// The header, if it was kept apart: it alone changes
    ///
    /// FILE is then the payload, and only looked at to see that it belongs to
    /// the header; it may be elsewhere.
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,

    /// Give new shares to the keyslots that name this key
    ///
    /// Either side's key, as `twinlock inspect` shows it, or one version of it.
    /// A file without such a keyslot stays as it is. Needed with --to-provider
    /// and --to-customer if the file has several keyslots.
    #[arg(long, value_name = "URI[@VERSION]", help_heading = "Changes")]
    pub(crate) from_key: Option<String>,

    /// The new provider's key
    #[arg(long, value_name = "URI", help_heading = "Changes")]
    pub(crate) to_provider: Option<String>,

    /// The new customer's key
    #[arg(long, value_name = "URI", help_heading = "Changes")]
    pub(crate) to_customer: Option<String>,

    /// Add a keyslot of these keys, unless there is one; repeatable
    #[arg(
        long = "add-keyslot",
        value_name = "PROVIDER_URI,CUSTOMER_URI",
        help_heading = "Changes"
    )]
    pub(crate) add: Vec<String>,

    /// Remove the keyslots of these keys; repeatable
    ///
    /// It must be possible to open them with the keys given, and another one
    /// that opens has to remain. The last one cannot be removed.
    #[arg(
        long = "remove-keyslot",
        value_name = "PROVIDER_URI,CUSTOMER_URI",
        help_heading = "Changes"
    )]
    pub(crate) remove: Vec<String>,

    /// Remove keyslots even if they do not open, as after the loss of a key
    #[arg(long, requires = "remove", help_heading = "Changes")]
    pub(crate) remove_unopened: bool,

    /// Open the file, say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) expected: ExpectedArgs,

    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// Encrypt a file anew, so that its old keys no longer open it
///
/// The file gets a new DEK and the keyslots that `encrypt` would give it now
/// (flags, variables or the profile), and keeps its encryption context. Its other
/// keyslots are gone. It is replaced when the new one is whole; plaintext is only
/// in memory. Keys that only the old file has are named with --from-keyslot.
///
/// Copies of the old file elsewhere still open with the old keys.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = REENCRYPT_EXAMPLES)]
pub(crate) struct ReencryptArgs {
    /// The file to encrypt anew, or - for stdin with -o
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// The header, if it was kept apart from the payload, which FILE then is
    #[arg(long, value_name = "FILE", requires = "output")]
    pub(crate) header: Option<PathBuf>,

    /// Keys that open the old file, beside the new ones; repeatable
    #[arg(long = "from-keyslot", value_name = "PROVIDER_URI,CUSTOMER_URI", help_heading = "Keys")]
    pub(crate) from: Vec<String>,

    #[command(flatten)]
    pub(crate) expected: ExpectedArgs,

    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// Show the settings that count
#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show the settings that count, and where each came from
    ///
    /// Takes the flags for keys that other verbs take, so that it shows what
    /// those would use. A PIN is never shown.
    #[command(after_long_help = CONFIG_SHOW_EXAMPLES)]
    Show {
        /// Say where each value came from: flag, variable, file and line
        #[arg(long)]
        origin: bool,

        #[command(flatten)]
        keys: KeyArgs,
    },
}

/// Look for what is wrong or unwise, and say what to do about it
///
/// Looks at the configuration, this machine, tokens and providers, and has
/// each key wrap and unwrap a random share. Changes nothing. A PIN is tried
/// once for each token, and not at all when one more wrong one would lock it.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// Log in for a key of a DKE service (dke+https://)
///
/// Shows an address and a code, and waits until you have confirmed it in a
/// browser, on this machine or another. Needs issuer, client_id and most often
/// scope in the profile's [dke], and is used by profiles with auth = "login".
/// The login is kept in a file that only you can read, and renewed when it is
/// over.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginArgs {}

/// Forget a login
///
/// Removes the file. Tokens in copies of it stay good until they end by
/// themselves.
#[derive(Debug, ClapArgs)]
pub(crate) struct LogoutArgs {}

/// Create, list and check keys
#[derive(Debug, ClapArgs)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) verb: KeysVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// Create a key
    ///
    /// In a token (pkcs11:): AES-256 or RSA, made by the token, which it never
    /// leaves. In AWS KMS (aws-kms://alias/<name>): a symmetric key and its
    /// alias. In Azure (azure-kv://…): RSA in an HSM, or AES-256 in a Managed
    /// HSM. In Google Cloud KMS (gcp-kms://…): a symmetric key in a key ring that
    /// exists. In Vault or OpenBao (vault://…): AES-256 in a transit engine. In a
    /// file (file:///path): for development only.
    #[command(after_long_help = KEYS_CREATE_EXAMPLES)]
    Create {
        /// What to create
        #[arg(value_name = "URI")]
        uri: String,

        /// The type of a key in a token
        ///
        /// With an RSA key, machines without the token can encrypt too: see
        /// `twinlock keys export-public`. An AES key binds the encryption
        /// context in the token, and is safe from quantum computers.
        #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t)]
        kek_type: KekType,

        /// Put this RSA private key into the token, instead of making one
        ///
        /// For keys that are in use already. In DER (PKCS #1); `-` is stdin.
        /// What else has a copy of it needs no token.
        #[arg(long, value_name = "FILE", conflicts_with = "kek_type")]
        from: Option<PathBuf>,
    },
    /// List tokens and their keys
    ///
    /// With the URI of a token, its keys; with a URI that names none, all
    /// tokens of the module; without a URI, the profile's token, or else the
    /// tokens of the module that TWINLOCK_PKCS11_MODULE names.
    #[command(after_long_help = KEYS_LIST_EXAMPLES)]
    List {
        /// A token, as in pkcs11:token=<label>?module-path=<path>
        #[arg(value_name = "URI")]
        uri: Option<String>,
    },
    /// Write the public part of an RSA key in a token, to encrypt elsewhere
    ///
    /// It is tried first. Besides the key, as PEM, you get the URI with which a
    /// machine without the token names it. The spki-sha256 in that URI is what
    /// an exchanged key is found out by: bring it there on a way of its own.
    #[command(after_long_help = KEYS_EXPORT_PUBLIC_EXAMPLES)]
    ExportPublic {
        /// The key, on a token that is here
        #[arg(value_name = "URI")]
        uri: String,

        #[command(flatten)]
        output: OutputArgs,
    },
    /// Check a key: wrap a random share, unwrap it, compare
    #[command(after_long_help = KEYS_CHECK_EXAMPLES)]
    Check {
        /// The key, or nothing for both keys of the profile
        #[arg(value_name = "URI")]
        uri: Option<String>,
    },
}

/// Write a profile, so that the other verbs need no flags
///
/// Asks on a terminal for what the flags leave open. The profile goes into the
/// configuration file; others in it are kept. At the end both keys are tried.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = INIT_EXAMPLES)]
pub(crate) struct InitArgs {
    /// The provider's key
    #[arg(long, value_name = "URI", conflicts_with = "dev_provider")]
    pub(crate) provider: Option<String>,

    /// The customer's key
    #[arg(long, value_name = "URI", conflicts_with = "softhsm")]
    pub(crate) customer: Option<String>,

    /// The customer's key of a second keyslot, for recovery
    ///
    /// A key that outlives the loss of the first: in another token, on a smart
    /// card in a safe. With this flag and without keys for the profile itself,
    /// the keyslot is added to the profile that there is.
    #[arg(long, value_name = "URI", help_heading = "Recovery")]
    pub(crate) recovery_customer: Option<String>,

    /// The provider's key of that keyslot; without it, the first one's
    #[arg(long, value_name = "URI", requires = "recovery_customer", help_heading = "Recovery")]
    pub(crate) recovery_provider: Option<String>,

    /// Create a provider key in a file, for development only
    #[arg(long)]
    pub(crate) dev_provider: bool,

    /// Create a SoftHSM token and a customer key in it
    ///
    /// Its random PIN goes into a file beside the configuration that only you
    /// can read.
    #[arg(long)]
    pub(crate) softhsm: bool,

    /// The label of the token that --softhsm creates
    #[arg(long, value_name = "LABEL", default_value = "twinlock")]
    pub(crate) token: String,

    /// The label of the key that --softhsm creates
    #[arg(long, value_name = "LABEL", default_value = "twinlock-kek")]
    pub(crate) key: String,

    /// The PKCS#11 module to use [env: TWINLOCK_PKCS11_MODULE]
    #[arg(long, value_name = "PATH")]
    pub(crate) module: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) dke: InitDkeArgs,

    /// Replace the profile if it exists
    #[arg(long)]
    pub(crate) force: bool,

    /// Do not try the keys at the end
    #[arg(long)]
    pub(crate) no_check: bool,
}

/// What a key of a DKE service needs in a profile.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "DKE service")]
pub(crate) struct InitDkeArgs {
    /// The SHA-256 of its public key, as its owner says it; repeatable
    ///
    /// Without it, what the service shows is shown to you, and you are asked.
    #[arg(long = "pin", value_name = "sha256:HEX")]
    pub(crate) pins: Vec<String>,

    /// The only authorities to trust, in PEM, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Where the token is [default: the variable TWINLOCK_DKE_TOKEN]
    #[arg(long, value_name = "FILE", conflicts_with = "issuer")]
    pub(crate) token_file: Option<PathBuf>,

    /// Who gives tokens to people who log in (`twinlock login`)
    #[arg(long, value_name = "URL", requires = "client_id")]
    pub(crate) issuer: Option<String>,

    /// How this program is registered there
    #[arg(long, value_name = "ID", requires = "issuer")]
    pub(crate) client_id: Option<String>,

    /// What tokens are to be good for
    #[arg(long, value_name = "SCOPES", requires = "issuer")]
    pub(crate) scope: Option<String>,
}

/// Print completions for a shell
#[derive(Debug, ClapArgs)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Print the manual page, or write one for each verb
#[derive(Debug, ClapArgs)]
pub(crate) struct ManArgs {
    /// Write twinlock.1 and a page for each verb into this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
}

fn short_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn long_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let used = match std::env::var("TWINLOCK_AEAD") {
            Ok(name) if !name.is_empty() => name,
            _ => twinlock::Backend::default().to_string(),
        };
        let built: Vec<&str> =
            twinlock::Backend::available().iter().map(|backend| backend.name()).collect();
        format!(
            "{}\nAES-256-GCM: {used} (built in: {})\nkeys: {}",
            short_version(),
            built.join(", "),
            crate::holders::BUILT_IN.join(", ")
        )
    });
    &TEXT
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_fit_together() {
        Args::command().debug_assert();
    }
}
