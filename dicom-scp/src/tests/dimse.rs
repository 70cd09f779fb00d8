//! The DIMSE port and nothing behind it.

use std::time::Duration;

use dicom_ul::pdu::{
    AssociationRJServiceUserReason as User, AssociationRJSource, Pdu,
    PresentationContextResultReason as Answer,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::scu::{Cut, Film, Scu, WHOLE, request, store_command};
use super::site::Site;

#[tokio::test]
async fn echo_is_answered_and_contexts_are_negotiated_one_by_one() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::connect(room.dimse).await;
    let Some(Pdu::AssociationAC(answer)) = scu
        .ask(&Pdu::AssociationRQ(request("CLOISTER", "TESTER")))
        .await
    else {
        panic!("not accepted");
    };
    let reasons: Vec<_> = answer
        .presentation_contexts
        .iter()
        .map(|context| context.reason.clone())
        .collect();
    let expected = [
        Answer::Acceptance,
        Answer::Acceptance,
        Answer::AbstractSyntaxNotSupported,
        Answer::TransferSyntaxesNotSupported,
    ];
    assert_eq!(reasons, expected);
    assert_eq!(
        answer.presentation_contexts[1].transfer_syntax,
        "1.2.840.10008.1.2.1"
    );
    for _ in 0..3 {
        assert_eq!(scu.echo().await, Some(0));
    }
    scu.release().await;
    room.stop().await;
}

#[tokio::test]
async fn the_called_and_calling_titles_and_the_application_context_are_checked() {
    let site = Site::new().await;
    let room = site
        .start_with("calling_ae_titles = [\"TESTER\"]", "")
        .await;
    let mut other = request("CLOISTER", "TESTER");
    other.application_context_name = "1.2.3".to_owned();
    for (request, reason) in [
        (
            request("NOBODY", "TESTER"),
            User::CalledAETitleNotRecognized,
        ),
        (
            request("CLOISTER", "STRANGER"),
            User::CallingAETitleNotRecognized,
        ),
        (other, User::ApplicationContextNameNotSupported),
    ] {
        let mut scu = Scu::connect(room.dimse).await;
        let answer = scu.ask(&Pdu::AssociationRQ(request)).await;
        let Some(Pdu::AssociationRJ(rejection)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(rejection.source, AssociationRJSource::ServiceUser(reason));
        assert!(scu.read().await.is_none());
    }
    room.stop().await;
}

#[tokio::test]
async fn garbage_is_aborted_at_its_first_byte_and_a_huge_length_at_its_sixth() {
    let site = Site::new().await;
    let room = site.start().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        b"\x0bMSH|^~\\&|",
        b"x",
        &[4, 0, 0, 0, 0, 1, 0],
        &[1, 0, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
        let started = std::time::Instant::now();
        let mut stream = TcpStream::connect(room.dimse).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.get(..6), Some(&[7, 0, 0, 0, 0, 4][..]), "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    room.stop().await;
}

#[tokio::test]
async fn commands_and_data_may_be_split_anywhere() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    for (at, cut) in [
        WHOLE,
        Cut {
            command: 60,
            data: 700,
        },
        Cut {
            command: 1,
            data: 1,
        },
    ]
    .into_iter()
    .enumerate()
    {
        let film = Film::new(1, at as u32);
        assert_eq!(
            scu.store_as(&film.instance, &film.data_set(), cut).await,
            Some(0),
            "{cut:?}"
        );
    }
    assert_eq!(scu.echo().await, Some(0));
    scu.release().await;
    assert_eq!(room.studies().await[0].objects, 3);
    room.stop().await;
}

#[tokio::test]
async fn command_and_data_in_one_pdu_are_told_apart() {
    let site = Site::new().await;
    let room = site.start().await;
    let mut scu = Scu::associate(room.dimse).await;
    let film = Film::new(1, 1);
    let (command, data) = (store_command(0, &film.instance), film.data_set());
    let value = |control: u8, bytes: &[u8]| {
        [
            &(bytes.len() as u32 + 2).to_be_bytes()[..],
            &[3, control],
            bytes,
        ]
        .concat()
    };
    let body = [
        value(3, &command),
        value(0, &data[..100]),
        value(2, &data[100..]),
    ]
    .concat();
    let pdu = [&[4, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat();
    scu.stream.write_all(&pdu).await.unwrap();
    assert_eq!(scu.status().await, Some(0));
    room.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_answered_on_the_same_association_and_kept_nowhere() {
    let site = Site::new().await;
    let room = site.start_with("max_object_bytes = 4096", "").await;
    let mut scu = Scu::associate(room.dimse).await;
    let film = Film::new(1, 1);
    assert_eq!(
        scu.store_as("1.2.3.4", &film.data_set(), WHOLE).await,
        Some(0xA900),
        "UID mismatch"
    );
    let bytes = film.data_set();
    assert_eq!(
        scu.store_as(&film.instance, &bytes[..bytes.len() - 7], WHOLE)
            .await,
        Some(0xC000),
        "cut"
    );
    assert_eq!(
        scu.store_as(&film.instance, &[0xAB; 999], WHOLE).await,
        Some(0xC000),
        "noise"
    );
    assert_eq!(
        scu.store_as("../../etc/passwd", &bytes, WHOLE).await,
        Some(0x0117),
        "a path"
    );
    let large = Film {
        side: 80,
        ..Film::new(1, 2)
    };
    assert_eq!(scu.store(&large).await, Some(0xA700), "too large");
    assert_eq!(scu.echo().await, Some(0));
    assert!(room.studies().await.is_empty());
    let left = std::fs::read_dir(site.state().join("spool/objects"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
    room.stop().await;
}

#[tokio::test]
async fn one_address_has_its_own_limit_and_is_told_so() {
    let site = Site::new().await;
    let room = site.start_with("max_connections_per_peer = 2", "").await;
    let (first, _second) = (
        Scu::associate(room.dimse).await,
        Scu::associate(room.dimse).await,
    );
    let mut third = Scu::connect(room.dimse).await;
    let answer = third.read().await;
    let Some(Pdu::AssociationRJ(rejection)) = answer else {
        panic!("{answer:?}")
    };
    assert!(matches!(
        rejection.source,
        AssociationRJSource::ServiceProviderPresentation(_)
    ));
    first.release().await;
    room.stop().await;
}

#[tokio::test]
async fn a_slow_request_and_an_idle_association_are_ended() {
    let site = Site::new().await;
    let room = site
        .start_with("request_timeout_ms = 100\nidle_timeout_ms = 200", "")
        .await;
    let mut silent = Scu::connect(room.dimse).await;
    assert!(matches!(silent.read().await, Some(Pdu::AbortRQ { .. })));
    let mut idle = Scu::associate(room.dimse).await;
    assert!(matches!(idle.read().await, Some(Pdu::AbortRQ { .. })));
    room.stop().await;
}

#[tokio::test]
async fn too_many_objects_on_one_association_end_it() {
    let site = Site::new().await;
    let room = site.start_with("max_objects = 1", "").await;
    let mut scu = Scu::associate(room.dimse).await;
    assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
    assert_eq!(scu.store(&Film::new(1, 2)).await, None);
    room.stop().await;
}
