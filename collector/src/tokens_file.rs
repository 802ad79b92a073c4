//! The tokens file, read again when it changes.

use crate::auth::Tokens;
use crate::metrics::Metrics;
use logweir_telemetry::admin::Readiness;
use logweir_telemetry::watched::{self, LOOK, Marks, Watched};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The name of the remark in `/readyz` while the file can't be read.
const REMARK: &str = "tokens_file";

/// The tokens in force.
#[derive(Debug)]
pub(crate) struct TokensFile {
    path: PathBuf,
    seen: Marks,
    current: RwLock<Arc<Tokens>>,
}

fn read(path: &Path) -> Result<Tokens, String> {
    Tokens::parse(&watched::read(path)?)
}

impl TokensFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// A sentence with the path and the line.
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let seen = Marks::of(std::slice::from_ref(&path));
        let tokens = read(&path).map_err(|e| format!("the tokens file {}: {e}", path.display()))?;
        tracing::info!(path = %path.display(), tokens = tokens.len(), "tokens read");
        Ok(Self { path, seen, current: RwLock::new(Arc::new(tokens)) })
    }

    /// The tokens in force.
    pub(crate) fn current(&self) -> Arc<Tokens> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again whenever it changes. While it can't be read, the tokens read before stay in force: what
    /// they revoked stays revoked.
    pub(crate) fn watched(self: &Arc<Self>, metrics: &Metrics, readiness: Readiness) -> Watched {
        let file = Arc::clone(self);
        let load = move || {
            let tokens = read(&file.path).map_err(|e| format!("{}: {e}", file.path.display()))?;
            file.replace(tokens);
            Ok(())
        };
        Watched {
            what: "the tokens file",
            remark: REMARK,
            paths: vec![self.path.clone()],
            seen: self.seen.clone(),
            every: LOOK,
            load: Arc::new(load),
            metrics: metrics.tokens_file.clone(),
            readiness,
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
