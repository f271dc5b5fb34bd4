//! Files that are changed, swapped and removed while they are watched.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;

const QUICK: Duration = Duration::from_millis(10);

/// A hang-up is for the whole process, so the tests take turns.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A running reload, which counts its calls and fails while `fail` exists.
struct Running {
    calls: Arc<AtomicUsize>,
    status: ReloadStatus,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start(files: Vec<PathBuf>, fail: PathBuf) -> Running {
    let (calls, status) = (Arc::<AtomicUsize>::default(), ReloadStatus::default());
    let task = tokio::spawn({
        let (calls, status) = (Arc::clone(&calls), status.clone());
        async move {
            let reload = || {
                calls.fetch_add(1, SeqCst);
                let result =
                    if fail.exists() { Err("line 3".to_owned()) } else { Ok(files.clone()) };
                std::future::ready(result)
            };
            run(files.clone(), QUICK, &status, reload).await.unwrap();
        }
    });
    tokio::time::sleep(5 * QUICK).await;
    Running { calls, status, task }
}

impl Running {
    /// That it was called so often.
    async fn called(&self, times: usize) {
        let wait = async {
            while self.calls.load(SeqCst) < times {
                tokio::time::sleep(QUICK).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it is called");
        tokio::time::sleep(10 * QUICK).await;
        assert_eq!(self.calls.load(SeqCst), times, "and not once more");
    }
}

#[tokio::test]
async fn what_changes_is_read_again() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    fs::write(&file, "1").unwrap();
    let running = start(vec![file.clone()], folder.path().join("fail")).await;
    running.called(0).await;
    fs::write(&file, "22").unwrap();
    running.called(1).await;
    fs::remove_file(&file).unwrap();
    running.called(2).await;
    fs::write(&file, "333").unwrap();
    running.called(3).await;
    // Another file of the same name, size and times.
    let other = folder.path().join("b.toml");
    fs::write(&other, "444").unwrap();
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
    fs::rename(&other, &file).unwrap();
    running.called(4).await;
    assert_eq!(running.status.last().counts, (4, 0));
}

/// As Kubernetes does: `cert -> ..data/cert`, and `..data` is swapped.
#[tokio::test]
async fn a_swapped_folder_is_a_change() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, content) in [("v1", "same"), ("v2", "same")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("cert"), content).unwrap();
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/cert", at("cert")).unwrap();
    let running = start(vec![at("cert")], at("fail")).await;
    symlink("v2", at("..tmp")).unwrap();
    fs::rename(at("..tmp"), at("..data")).unwrap();
    running.called(1).await;
}

#[tokio::test]
async fn a_failure_is_kept_until_it_is_mended() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, fail) = (folder.path().join("a"), folder.path().join("fail"));
    fs::write(&file, "1").unwrap();
    fs::write(&fail, "").unwrap();
    let running = start(vec![file.clone()], fail.clone()).await;
    fs::write(&file, "22").unwrap();
    running.called(1).await;
    let last = running.status.last();
    assert_eq!(
        (last.error.as_deref(), last.succeeded, last.counts),
        (Some("line 3"), None, (0, 1))
    );
    fs::remove_file(&fail).unwrap();
    fs::write(&file, "333").unwrap();
    running.called(2).await;
    let last = running.status.last();
    assert!(last.error.is_none() && last.succeeded.is_some());
    assert_eq!(last.counts, (1, 1));
}

#[tokio::test]
async fn a_hang_up_is_a_wish() {
    let _alone = ALONE.lock().await;
    let running = start(Vec::new(), "/nonexistent".into()).await;
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
    running.called(1).await;
}
