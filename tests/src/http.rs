//! The admin ports, as a scraper sees them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::waiting::within;

/// `GET path`; the body of a 200 answer.
///
/// # Errors
/// When the port does not answer, or with another status.
pub async fn get(address: SocketAddr, path: &str) -> Result<String> {
    within("an HTTP answer", 10, async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer).context("the answer is not text")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(
            head.starts_with("HTTP/1.1 200"),
            "{path}: {}",
            head.lines().next().unwrap_or("")
        );
        Ok(body.to_owned())
    })
    .await
}

/// Every sample of `/metrics` whose name is `name` and whose labels hold every text of `labels`,
/// added up; 0 where there is none.
///
/// # Errors
/// When the port does not answer.
pub async fn metrics_of(address: SocketAddr, name: &str, labels: &[&str]) -> Result<f64> {
    let text = get(address, "/metrics").await?;
    let mut sum = 0.0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
        if series_name == name && labels.iter().all(|label| series_labels.contains(label)) {
            sum += value.parse::<f64>().unwrap_or(0.0);
        }
    }
    Ok(sum)
}
