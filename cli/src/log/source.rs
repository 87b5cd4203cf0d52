//! Where the files of a log come from.

use identity::SerialNumber;
use serde_json::Value;
use tlog::TilePath;

use crate::admin::{Client, ClientError};

/// A log, as an auditor reads it.
pub(super) trait Source {
    type Error: std::error::Error + Send + Sync + 'static;

    async fn checkpoint(&self) -> Result<String, Self::Error>;

    /// `None`: the entries have been pruned.
    async fn tile(&self, tile: TilePath) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Which leaf the log says that a certificate is.
    async fn leaf_of(&self, serial: SerialNumber) -> Result<Option<u64>, Self::Error>;
}

impl Source for Client {
    type Error = ClientError;

    async fn checkpoint(&self) -> Result<String, ClientError> {
        let note = self.get_bytes("/v1/log/checkpoint").await?;
        // What is no text fails as a checkpoint does.
        Ok(String::from_utf8_lossy(&note).into_owned())
    }

    async fn tile(&self, tile: TilePath) -> Result<Option<Vec<u8>>, ClientError> {
        match self.get_bytes(&format!("/v1/log/{tile}")).await {
            Err(error) if error.status() == Some(410) => Ok(None),
            outcome => Ok(Some(outcome?.to_vec())),
        }
    }

    async fn leaf_of(&self, serial: SerialNumber) -> Result<Option<u64>, ClientError> {
        match self
            .get(&format!("/v1/log/inclusion?serial={serial}"))
            .await
        {
            Err(error) if error.status() == Some(404) => Ok(None),
            outcome => Ok(outcome?["leaf"].as_u64()),
        }
    }
}

impl Client {
    pub(super) async fn about(&self) -> Result<Value, ClientError> {
        self.get("/v1/log").await
    }
}
