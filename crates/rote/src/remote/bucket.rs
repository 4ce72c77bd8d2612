//! A shared store in a bucket that speaks S3: `s3://BUCKET/PREFIX`, endpoint and credentials from the usual `AWS_…` variables.
//!
//! An object appears whole or not at all, and a result's manifest is its last, so a result is there whole or not at all.
//! The server compares each object with its SHA-256 on arrival. What two push at once is the same but for `run.json`, of
//! which the first one stays.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path as Name;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use rote_store::{Digest, Manifest};
use tokio::runtime::{Builder, Runtime};

use super::{Remote, is_as_written, place};
use crate::shelf::Shelf;

/// Bytes that travel at a time; S3 takes 10 000 such pieces of an object.
const PIECE: u64 = 16 << 20;

/// A bucket laid out as our own store.
pub struct Bucket {
    store: AmazonS3,
    /// As it is given.
    url: String,
    prefix: String,
    runtime: Runtime,
}

impl Bucket {
    /// The bucket and prefix that `place` says, `BUCKET/PREFIX`.
    ///
    /// # Errors
    /// It does not answer, or not us.
    pub fn open(place: &str) -> Result<Bucket> {
        let url = format!("s3://{}", place.trim_end_matches('/'));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let retry =
            RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_retry(retry)
            .build()
            .with_context(|| url.clone())?;
        let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let prefix = prefix.trim_matches('/').to_string();
        let bucket = Bucket { store, url, prefix, runtime };
        // A bucket that is not there must not look like an empty one.
        let folder = Name::from(bucket.prefix.as_str());
        bucket
            .runtime
            .block_on(bucket.store.list_with_delimiter(Some(&folder)))
            .with_context(|| bucket.url.clone())?;
        Ok(bucket)
    }

    fn name(&self, name: &str) -> Name {
        Name::from(format!("{}/{name}", self.prefix))
    }

    /// The object `name`, where there is one.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let read = self.runtime.block_on(async { self.store.get(&self.name(name)).await?.bytes().await });
        match read {
            Err(Error::NotFound { .. }) => Ok(None),
            read => Ok(Some(read.with_context(|| self.called(name))?.to_vec())),
        }
    }

    fn write(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let written = self.runtime.block_on(self.store.put(&self.name(name), PutPayload::from(bytes)));
        written.map(drop).with_context(|| self.called(name))
    }

    /// Writes the object `name` unless there is one; the bytes that are there then.
    fn write_first(&self, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let object = self.name(name);
        let put = self.store.put_opts(&object, PutPayload::from(bytes.clone()), PutMode::Create.into());
        match self.runtime.block_on(put) {
            Ok(_) => Ok(bytes),
            Err(Error::AlreadyExists { .. }) => {
                self.read(name)?.with_context(|| format!("{} was taken away", self.called(name)))
            }
            // A server that can't tell: the last one stays.
            Err(Error::NotImplemented { .. }) => self.write(name, bytes.clone()).map(|()| bytes),
            Err(error) => Err(error).with_context(|| self.called(name)),
        }
    }

    /// Whether the result of `key` is there with all its files, each of the right size.
    fn is_whole(&self, key: Digest) -> Result<bool> {
        let source = place(key);
        let Some(text) = self.read(&format!("{source}/{}", Manifest::FILE))? else { return Ok(false) };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { return Ok(false) };
        for file in &manifest.files {
            let name = format!("{source}/{}", file.path);
            match self.runtime.block_on(self.store.head(&self.name(&name))) {
                Ok(found) if found.size == file.bytes => {}
                Ok(_) | Err(Error::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(error).with_context(|| self.called(&name)),
            }
        }
        Ok(true)
    }

    /// Copies the file at `source` to the object `name`, piece by piece where it is large.
    fn send(&self, source: &Path, name: &str, size: u64) -> Result<()> {
        let reading = || format!("reading {}", source.display());
        let mut file = File::open(source).with_context(reading)?;
        let piece = PIECE.max(size / 9_000);
        let mut next = || {
            let mut bytes = Vec::new();
            (&mut file).take(piece).read_to_end(&mut bytes).with_context(reading)?;
            Ok::<_, anyhow::Error>(bytes)
        };
        if size <= piece {
            return self.write(name, next()?);
        }
        self.runtime.block_on(async {
            let mut upload = self.store.put_multipart(&self.name(name)).await?;
            let sent = async {
                loop {
                    let bytes = next()?;
                    if bytes.is_empty() {
                        return upload.complete().await.map(drop).map_err(anyhow::Error::from);
                    }
                    upload.put_part(PutPayload::from(bytes)).await?;
                }
            };
            let sent = sent.await;
            if sent.is_err() {
                // Pieces that are never put together would be paid for all the same.
                let _ = upload.abort().await;
            }
            sent.with_context(|| self.called(name))
        })
    }
}

impl Remote for Bucket {
    fn is_there(&self) -> Result<()> {
        // Looked for when it was opened.
        Ok(())
    }

    fn has(&self, key: Digest) -> Result<bool> {
        // What is damaged there says so when it arrives.
        let name = self.name(&format!("{}/{}", place(key), Manifest::FILE));
        match self.runtime.block_on(self.store.head(&name)) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error).with_context(|| self.url.clone()),
        }
    }

    fn put(&self, from: &Shelf, key: Digest) -> Result<Option<u64>> {
        if self.is_whole(key)? {
            return Ok(None);
        }
        let (source, folder) = (place(key), from.place(key));
        let manifest = Manifest::read(&folder)?;
        let mut bytes = 0;
        for file in &manifest.files {
            let path = folder.join(&file.path);
            is_as_written(&path, &path.display().to_string(), file.blake3)?;
            self.send(&path, &format!("{source}/{}", file.path), file.bytes)?;
            bytes += file.bytes;
        }
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let text = read(&folder.join(Manifest::FILE))?;
        let run = self.write_first(
            &format!("{source}/{}", Manifest::RUN_FILE),
            read(&folder.join(Manifest::RUN_FILE))?,
        )?;
        self.write(
            &format!("{source}.seal"),
            crate::shelf::seal_of(&text, &run, &key.to_string()).into_bytes(),
        )?;
        self.write(&format!("{source}.key"), read(&from.beside(key, "key"))?)?;
        self.write(&format!("{source}/{}", Manifest::FILE), text)?;
        Ok(Some(bytes))
    }

    fn link(&self, _pipeline: &str, _node: &str, _key: Digest) -> Result<()> {
        // A bucket has no links, and nobody collects from it.
        Ok(())
    }

    fn fetch(&self, name: &str, target: &Path) -> Result<()> {
        let writing = || format!("writing {}", target.display());
        let mut file = File::create(target).with_context(writing)?;
        let object = self.name(name);
        self.runtime.block_on(async {
            let size = self.store.head(&object).await.with_context(|| self.called(name))?.size;
            for start in (0..size).step_by(PIECE as usize) {
                let piece = self.store.get_range(&object, start..size.min(start + PIECE)).await;
                file.write_all(&piece.with_context(|| self.called(name))?).with_context(writing)?;
            }
            file.sync_all().with_context(writing)
        })
    }

    fn called(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }
}
