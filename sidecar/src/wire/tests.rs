use cloister_proto::v1::Progress;
use http_body_util::StreamBody;
use proptest::prelude::*;

use super::*;

fn body(
    frames: Vec<Frame<Bytes>>,
) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
    StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok)))
}

fn progress(step: &str) -> Progress {
    Progress {
        step: step.to_owned(),
        fraction: 0.5,
    }
}

#[tokio::test]
async fn messages_survive_any_cut_into_frames() {
    let bytes = [encode(&progress("clean")), encode(&progress("draft"))].concat();
    for size in 1..bytes.len() {
        let mut frames: Vec<_> = bytes
            .chunks(size)
            .map(|chunk| Frame::data(Bytes::copy_from_slice(chunk)))
            .collect();
        frames.push(Frame::trailers(success()));
        let mut messages = Messages::new(body(frames), 100);
        assert_eq!(messages.next().await.unwrap(), Some(progress("clean")));
        assert_eq!(messages.next().await.unwrap(), Some(progress("draft")));
        assert_eq!(messages.next::<Progress>().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_stream_without_trailers_or_with_half_a_message_is_broken() {
    let whole = encode(&progress("clean"));
    let cut = Frame::data(whole.slice(..whole.len() - 1));
    for frames in [
        vec![],
        vec![Frame::data(Bytes::new())],
        vec![Frame::data(whole.slice(..3)), Frame::trailers(success())],
        vec![cut, Frame::trailers(success())],
        vec![Frame::trailers(HeaderMap::new())],
    ] {
        assert!(matches!(
            Messages::new(body(frames), 100).next::<Progress>().await,
            Err(Ended::Broken)
        ));
    }
}

#[tokio::test]
async fn a_large_or_compressed_message_is_refused_by_its_head() {
    for head in [[0, 0, 0, 0, 101], [0, 255, 255, 255, 255], [1, 0, 0, 0, 1]] {
        let frames = vec![Frame::data(Bytes::copy_from_slice(&head))];
        assert!(matches!(
            Messages::new(body(frames), 100).next::<Progress>().await,
            Err(Ended::Broken)
        ));
    }
}

#[tokio::test]
async fn the_servers_own_status_is_kept() {
    let frames = vec![Frame::trailers(failure(&tonic::Status::invalid_argument(
        "why",
    )))];
    let Err(Ended::Status(status)) = Messages::new(body(frames), 100).next::<Progress>().await
    else {
        panic!("a status")
    };
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::InvalidArgument, "why")
    );
}

#[tokio::test]
async fn a_passed_through_body_that_breaks_off_ends_with_unavailable() {
    let frames = vec![Frame::data(Bytes::from_static(b"x"))];
    let collected = Guarded::new(body(frames)).collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "14");
    let frames = vec![
        Frame::data(Bytes::from_static(b"x")),
        Frame::trailers(success()),
    ];
    let collected = Guarded::new(body(frames)).collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6)) {
        let frames = chunks.into_iter().map(|chunk| Frame::data(Bytes::from(chunk)));
        let frames = frames.chain([Frame::trailers(success())]).collect();
        let mut messages = Messages::new(body(frames), 16);
        futures_util::FutureExt::now_or_never(async move {
            while let Ok(Some(_)) = messages.next::<Progress>().await {}
        })
        .unwrap();
    }
}
