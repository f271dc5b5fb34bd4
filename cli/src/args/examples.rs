//! What `--help` shows at its end.

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    failed, or `prove` saw an unexpected outcome
  2    usage, wrong setting, not a Twinlock file
  3    tampered with, cut short, another encryption context
  4    denied, no such key, or no keyslot of the file fits
  5    a holder is busy or unreachable: worth a retry
  6    a part of a batch failed
  129, 130, 143  hung up, interrupted, terminated

Flags go before TWINLOCK_* variables, those before the profile in the
configuration file. docs/cli.md has all of them.";

pub(super) const ENCRYPT_EXAMPLES: &str = "\
Examples:
  twinlock encrypt backup.tar --context object=backup.tar

  set -o pipefail
  tar c data | twinlock encrypt - --context object=data.tar \\
    | aws s3 cp - s3://bucket/data.tar.twl
  tar c data | twinlock encrypt - --context object=data.tar \\
    | rclone rcat remote:data.tar.twl

  twinlock encrypt report.pdf -o /mnt/share/report.pdf.twl --force
  twinlock encrypt *.pdf -o /mnt/share/reports
  twinlock encrypt -r data -o data.enc --exclude '*.tmp' --resume
  find data -mtime -1 -type f -print0 \\
    | twinlock encrypt --files-from - -0 -o data.enc
  twinlock encrypt report.pdf --keyslot \\
    'aws-kms://<key ARN>,pkcs11:token=recovery;object=kek'

In a pipeline only exit codes tell that something went wrong: an upload
that ends early leaves an object that does not open, and a command that
dies while it writes to `encrypt -` leaves a short file that does.";

pub(super) const DECRYPT_EXAMPLES: &str = "\
Examples:
  twinlock decrypt backup.tar.twl --context object=backup.tar
  twinlock decrypt video.twl --range 1048576..2097152 -o frame.bin
  twinlock decrypt -r data.enc -o data --context folder=data --resume

  set -o pipefail
  aws s3 cp s3://bucket/data.tar.twl - \\
    | twinlock decrypt - --context object=data.tar | tar x
  rclone cat remote:data.tar.twl \\
    | twinlock decrypt - --context object=data.tar -o data.tar";

pub(super) const INSPECT_EXAMPLES: &str = "\
Examples:
  twinlock inspect backup.tar.twl
  twinlock inspect --json backup.tar.twl | jq .keyslots
  aws s3 cp s3://bucket/backup.tar.twl - | head -c 66000 \\
    | twinlock inspect -";

pub(super) const VERIFY_EXAMPLES: &str = "\
Examples:
  twinlock verify backup.tar.twl --context object=backup.tar
  aws s3 cp s3://bucket/backup.tar.twl - \\
    | twinlock verify - --any-context";

pub(super) const PROVE_EXAMPLES: &str = "\
Examples:
  twinlock prove backup.tar.twl
  twinlock prove --json backup.tar.twl > evidence.json";

pub(super) const REWRAP_EXAMPLES: &str = "\
Examples:
  twinlock rewrap data.twl --context object=data \\
    --to-customer 'pkcs11:token=new;object=kek'
  twinlock rewrap data.twl --any-context --dry-run --json \\
    --from-key 'pkcs11:token=old;object=kek' \\
    --to-customer 'pkcs11:token=new;object=kek'
  twinlock rewrap -r archive --any-context --json \\
    --from-key 'pkcs11:token=old;object=kek' \\
    --to-customer 'pkcs11:token=new;object=kek'
  twinlock rewrap data.twl --context object=data --add-keyslot \\
    'aws-kms://<key ARN>,pkcs11:token=recovery;object=kek'
  twinlock rewrap data.twl --context object=data --remove-keyslot \\
    'aws-kms://<key ARN>,pkcs11:token=recovery;object=kek'";

pub(super) const REENCRYPT_EXAMPLES: &str = "\
Examples:
  twinlock reencrypt data.twl --context object=data
  twinlock reencrypt data.twl --context object=data \\
    --from-keyslot 'aws-kms://<key ARN>,pkcs11:token=lost;object=kek'";

pub(super) const CONFIG_SHOW_EXAMPLES: &str = "\
Examples:
  twinlock config show --origin
  twinlock config show --profile archive --json | jq .settings";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  twinlock doctor
  twinlock doctor --profile archive
  twinlock doctor --json | jq '.checks[] | select(.state != \"ok\")'";

pub(super) const KEYS_CREATE_EXAMPLES: &str = "\
Examples:
  twinlock keys create \\
    'pkcs11:token=prod;object=kek?module-path=/usr/lib/libyourhsm.so'
  twinlock keys create --type rsa-3072 \\
    'pkcs11:token=prod;object=kek?module-path=/usr/lib/libyourhsm.so'
  openssl rsa -in old.pem -traditional -outform DER |
    twinlock keys create --from - \\
      'pkcs11:token=prod;object=old?module-path=/usr/lib/libyourhsm.so'
  twinlock keys create aws-kms://alias/archive
  twinlock keys create vault://vault.example:8200/transit/keys/archive
  twinlock keys create file:///home/me/dev.kek";

pub(super) const KEYS_EXPORT_PUBLIC_EXAMPLES: &str = "\
Examples:
  twinlock keys create --type rsa-3072 \\
    'pkcs11:token=vault;object=recovery?module-path=/usr/lib/hsm.so'
  twinlock keys export-public -o recovery.pem \\
    'pkcs11:token=vault;object=recovery?module-path=/usr/lib/hsm.so'";

pub(super) const KEYS_LIST_EXAMPLES: &str = "\
Examples:
  twinlock keys list 'pkcs11:?module-path=/usr/lib/libyourhsm.so'
  twinlock keys list \\
    'pkcs11:token=prod?module-path=/usr/lib/libyourhsm.so'";

pub(super) const KEYS_CHECK_EXAMPLES: &str = "\
Examples:
  twinlock keys check
  twinlock keys check aws-kms://alias/archive
  twinlock keys check \\
    'pkcs11:token=prod;object=kek?module-path=/usr/lib/libyourhsm.so'";

pub(super) const LOGIN_EXAMPLES: &str = "\
Examples:
  twinlock login
  twinlock login --profile archive";

pub(super) const INIT_EXAMPLES: &str = "\
Examples:
  twinlock init
  twinlock init --dev-provider --softhsm

  hsm='module-path=/usr/lib/libyourhsm.so&pin-source=file:/run/pin'
  twinlock init --profile archive \\
    --provider aws-kms://alias/archive \\
    --customer \"pkcs11:token=prod;object=kek?$hsm\"

  # a key that a service keeps, for machines without a token
  twinlock init --profile desk \\
    --provider aws-kms://alias/archive \\
    --customer dke+https://dke.example.org/Archive \\
    --issuer https://login.example.org --client-id twinlock \\
    --scope 'offline_access https://dke.example.org/use'

  # a second keyslot, for the day that a key is lost
  card='module-path=/usr/lib/opensc-pkcs11.so&pin-source=file:/run/card'
  twinlock init --profile archive \\
    --recovery-provider aws-kms://alias/recovery \\
    --recovery-customer \"pkcs11:token=safe;object=kek?$card\"";

#[cfg(test)]
mod tests {
    use super::*;

    /// In 80 columns, which a manual page indents by 7: what is longer is
    /// broken, and no command that somebody can paste.
    #[test]
    fn examples_fit_a_terminal() {
        let texts = [
            AFTER_HELP,
            ENCRYPT_EXAMPLES,
            DECRYPT_EXAMPLES,
            INSPECT_EXAMPLES,
            VERIFY_EXAMPLES,
            PROVE_EXAMPLES,
            REWRAP_EXAMPLES,
            REENCRYPT_EXAMPLES,
            CONFIG_SHOW_EXAMPLES,
            DOCTOR_EXAMPLES,
            KEYS_CREATE_EXAMPLES,
            KEYS_EXPORT_PUBLIC_EXAMPLES,
            KEYS_LIST_EXAMPLES,
            KEYS_CHECK_EXAMPLES,
            INIT_EXAMPLES,
            LOGIN_EXAMPLES,
        ];
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.len() <= 72, "{line}");
        }
    }
}
