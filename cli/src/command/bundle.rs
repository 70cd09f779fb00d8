//! `cloister bundle inspect|verify|sign`: what a bundle says it is, whether it may run here, and how
//! one that this project did not make comes to run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cloister_log::durable;
use cloister_onnx::{Bundle, Kind, TrustedHashes};
use cloister_seal::files::read_secret_text;
use serde_json::json;

use crate::failure::usage;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: BundleCommand,
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Show a bundle; checks every file's hash, not who is trusted.
    Inspect {
        /// The bundle's folder.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Check that bundles are whole and trusted, as a server does at its start.
    Verify {
        /// Folders of bundles.
        #[arg(value_name = "DIR", required = true)]
        dirs: Vec<PathBuf>,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Sign a bundle: writes its bundle.sig.
    Sign {
        /// Ed25519 private key (PKCS#8 PEM, 0600), as `keys signing` makes it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The bundle's folder.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Which bundles may run beside those that this project made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TrustArgs {
    /// PEM file with an Ed25519 public key whose signatures are trusted; may be repeated.
    #[arg(long = "trust-key", value_name = "FILE")]
    keys: Vec<PathBuf>,
}

impl TrustArgs {
    /// The hashes that were compiled in, and these keys.
    pub(crate) fn trusted(&self) -> Result<TrustedHashes> {
        let mut trust = TrustedHashes::compiled_in()?;
        for path in &self.keys {
            let name = || path.display().to_string();
            let pem = std::fs::read_to_string(path)
                .map_err(|error| usage(format!("{}: {error}", name())))?;
            trust = trust
                .with_key_pem(&pem)
                .map_err(|error| usage(format!("{}: {error}", name())))?;
        }
        Ok(trust)
    }
}

pub(crate) fn run(args: &Args, out: Output) -> Result<()> {
    match &args.command {
        BundleCommand::Inspect { dir } => inspect(dir, out),
        BundleCommand::Verify { dirs, trust } => verify(dirs, trust, out),
        BundleCommand::Sign { key, dir } => sign(key, dir, out),
    }
}

/// What a bundle is for, as `bundle.toml` writes it.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Report => "report",
        Kind::Guard => "guard",
        Kind::Phi => "phi",
        Kind::TextDetector => "text-detector",
        Kind::Scripted => "scripted",
        _ => "unknown",
    }
}

fn inspect(dir: &Path, out: Output) -> Result<()> {
    let bundle = Bundle::inspect(dir)?;
    let manifest = bundle.manifest();
    let sha256 = hex::encode(bundle.sha256());
    out.emit(&json!({
        "name": manifest.name,
        "version": manifest.version,
        "kind": kind(manifest.kind),
        "evaluated": manifest.evaluated,
        "sha256": sha256,
        "files": manifest.files.iter().map(|file| json!({
            "path": file.path,
            "sha256": file.sha256,
            "source": file.source,
        })).collect::<Vec<_>>(),
    }))?;
    out.say(format!(
        "{} {} ({})",
        manifest.name,
        manifest.version,
        kind(manifest.kind)
    ))?;
    out.say(format!(
        "  evaluated  {}",
        if manifest.evaluated { "yes" } else { "no" }
    ))?;
    out.say(format!("  sha256     {sha256}"))?;
    for file in &manifest.files {
        let source = file.source.as_deref().unwrap_or("in the folder");
        out.say(format!("  {}  {}  {source}", file.sha256, file.path))?;
    }
    Ok(())
}

fn sign(key: &Path, dir: &Path, out: Output) -> Result<()> {
    let pem = read_secret_text(key).with_context(|| key.display().to_string())?;
    // Only a whole bundle is signed: a signature says "this may run".
    let bundle = Bundle::inspect(dir)?;
    let signature = cloister_onnx::sign(bundle.sha256(), &pem)
        .map_err(|error| usage(format!("{}: {error}", key.display())))?;
    let file = dir.join("bundle.sig");
    durable::write_atomic(&file, &signature, 0o644).with_context(|| file.display().to_string())?;
    let sha256 = hex::encode(bundle.sha256());
    out.emit(&json!({ "dir": dir, "signature": file, "sha256": sha256 }))?;
    out.say(format!(
        "Signed {} {} ({sha256}): {}",
        bundle.manifest().name,
        bundle.manifest().version,
        file.display()
    ))
}

fn verify(dirs: &[PathBuf], trust: &TrustArgs, out: Output) -> Result<()> {
    let trust = trust.trusted()?;
    let mut failed = 0usize;
    for dir in dirs {
        match Bundle::load(dir, &trust) {
            Ok(bundle) => {
                let manifest = bundle.manifest();
                let sha256 = hex::encode(bundle.sha256());
                out.emit(
                    &json!({ "dir": dir, "ok": true, "name": manifest.name, "sha256": sha256 }),
                )?;
                out.say(format!(
                    "ok      {} {} {sha256}",
                    manifest.name, manifest.version
                ))?;
            }
            Err(error) => {
                failed += 1;
                out.emit(&json!({ "dir": dir, "ok": false, "error": error.to_string() }))?;
                out.say(format!("FAILED  {}: {error}", dir.display()))?;
            }
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} bundles may not run", dirs.len());
    }
    Ok(())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "test fixtures need not survive a power cut"
)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use cloister_onnx::{Bundle, BundleError};
    use cloister_seal::SigningKey;
    use cloister_seal::files::write_secret;
    use sha2::{Digest as _, Sha256};

    use super::{TrustArgs, sign};
    use crate::output::Output;

    /// A bundle with one file, and its keys beside it.
    fn fixture(dir: &Path) -> (PathBuf, TrustArgs) {
        let key = SigningKey::generate().unwrap();
        write_secret(&dir.join("key.pem"), key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
        let public = dir.join("key.pem.pub");
        std::fs::write(&public, key.verifying_key().to_pem().unwrap()).unwrap();
        std::fs::write(dir.join("prefix.txt"), "be careful").unwrap();
        let text = format!(
            "name = 'own'\nversion = '1'\nkind = 'report'\n\
             [[file]]\npath = 'prefix.txt'\nsha256 = '{}'\n",
            hex::encode(Sha256::digest(b"be careful"))
        );
        std::fs::write(dir.join("bundle.toml"), text).unwrap();
        (dir.join("key.pem"), TrustArgs { keys: vec![public] })
    }

    #[test]
    fn a_signed_bundle_runs_where_its_key_is_trusted_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (key, trust) = fixture(dir.path());
        let nobody = TrustArgs { keys: Vec::new() };
        assert!(Bundle::load(dir.path(), &trust.trusted().unwrap()).is_err());
        sign(&key, dir.path(), Output::new(true)).unwrap();
        assert!(Bundle::load(dir.path(), &trust.trusted().unwrap()).is_ok());
        assert!(matches!(
            Bundle::load(dir.path(), &nobody.trusted().unwrap()),
            Err(BundleError::Untrusted { .. })
        ));
        let private = TrustArgs { keys: vec![key] };
        assert!(private.trusted().is_err(), "a private key is no trust key");
    }

    #[test]
    fn an_altered_bundle_is_not_signed_and_an_exposed_key_signs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (key, _) = fixture(dir.path());
        let signed = || sign(&key, dir.path(), Output::new(true)).is_ok();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!signed());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(dir.path().join("prefix.txt"), "be careless").unwrap();
        assert!(!signed());
        assert!(!dir.path().join("bundle.sig").exists());
        std::fs::write(dir.path().join("prefix.txt"), "be careful").unwrap();
        assert!(signed());
    }
}
