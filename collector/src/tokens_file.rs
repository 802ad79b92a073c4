//! The tokens file, read again when it changes.

use crate::auth::Tokens;
use prometheus_client::metrics::counter::Counter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// How often the file is looked at. Its time, size and inode are compared, so this costs one `stat`.
const LOOK: Duration = Duration::from_secs(1);
/// Far more tokens than anyone has; a larger file is a mistake, and would be read into memory.
const MAX_BYTES: u64 = 64 << 20;

/// What shows that a file has changed.
type Mark = (Option<SystemTime>, u64, u64);

/// The tokens in force.
#[derive(Debug)]
pub(crate) struct TokensFile {
    path: PathBuf,
    current: RwLock<Arc<Tokens>>,
}

fn read(path: &Path) -> Result<(Tokens, Mark), String> {
    let mark = mark(path)?;
    if mark.1 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    Ok((Tokens::parse(&text)?, mark))
}

fn mark(path: &Path) -> Result<Mark, String> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
    Ok((meta.modified().ok(), meta.len(), meta.ino()))
}

impl TokensFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// A sentence with the path and the line.
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let (tokens, _) = read(&path).map_err(|e| format!("the tokens file {}: {e}", path.display()))?;
        tracing::info!(path = %path.display(), tokens = tokens.len(), "tokens read");
        Ok(Self { path, current: RwLock::new(Arc::new(tokens)) })
    }

    /// The tokens in force.
    pub(crate) fn current(&self) -> Arc<Tokens> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks after the file until `stop`. A file that can't be read or has a wrong line changes nothing, and is
    /// logged and counted as an error once.
    pub(crate) async fn watch(&self, errors: Counter, stop: CancellationToken) {
        // `None`, so that what changed between `open` and now is seen.
        let mut seen: Option<Result<Mark, String>> = None;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let path = self.path.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || mark(&path)).await else { continue };
            if seen.as_ref() == Some(&now) {
                continue;
            }
            seen = Some(now);
            let path = self.path.clone();
            let Ok(outcome) = tokio::task::spawn_blocking(move || read(&path)).await else { continue };
            match outcome {
                Ok((tokens, _)) => self.replace(tokens),
                Err(error) => {
                    errors.inc();
                    tracing::error!(
                        path = %self.path.display(), %error,
                        "the tokens file is broken; the tokens read before stay in force"
                    );
                }
            }
        }
    }

    fn replace(&self, tokens: Tokens) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if **current != tokens {
            tracing::info!(path = %self.path.display(), tokens = tokens.len(), "tokens read again");
            *current = Arc::new(tokens);
        }
    }
}
