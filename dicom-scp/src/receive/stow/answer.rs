//! The Store Instances Response (PS3.18 section 10.5.3 and annex I.2) in DICOM JSON (annex F).

use bytes::Bytes;
use cloister_phi::{Phi, Uid};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use super::media::DICOM_JSON;
use crate::metric::{self, Stowed};
use cloister_dimse::command::Status;

/// The instance of a part, as far as the part names one. It goes back to the client that sent it,
/// and nowhere else.
#[derive(Debug, Clone, Default)]
pub(super) struct Instance {
    pub(super) sop_class: Option<Uid>,
    pub(super) sop_instance: Option<Phi<Uid>>,
}

/// What is answered once the request was read. Holds UIDs in clear, so it has no `Debug`.
#[derive(Default)]
pub(super) struct Answer {
    stored: Vec<Value>,
    failed: Vec<Value>,
    /// Parts that name no instance.
    others: Vec<Value>,
}

impl Answer {
    /// Adds a part.
    pub(super) fn add(&mut self, instance: Instance, status: Status) {
        let mut item = serde_json::Map::new();
        if let Some(class) = &instance.sop_class {
            item.insert("00081150".to_owned(), uid(class));
        }
        if let Some(instance) = &instance.sop_instance {
            item.insert("00081155".to_owned(), uid(instance.expose()));
        }
        if status == Status::Success {
            return self.stored.push(item.into());
        }
        item.insert(
            "00081197".to_owned(),
            json!({"vr": "US", "Value": [status.code()]}),
        );
        let named = instance.sop_instance.is_some() && instance.sop_class.is_some();
        if named {
            &mut self.failed
        } else {
            &mut self.others
        }
        .push(item.into());
    }

    /// Parts so far.
    pub(super) fn parts(&self) -> usize {
        self.stored.len() + self.failed.len() + self.others.len()
    }

    /// 200 when everything is stored, 202 when something is, 409 when nothing is.
    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let failures = !self.failed.is_empty() || !self.others.is_empty();
        let (status, stowed) = match (self.stored.is_empty(), failures) {
            (false, false) => (StatusCode::OK, Stowed::All),
            (false, true) => (StatusCode::ACCEPTED, Stowed::Some),
            (true, _) => (StatusCode::CONFLICT, Stowed::None),
        };
        metric::stow(stowed);
        let mut body = serde_json::Map::new();
        for (tag, items) in [
            ("00081198", self.failed),
            ("00081199", self.stored),
            ("0008119A", self.others),
        ] {
            if !items.is_empty() {
                body.insert(tag.to_owned(), json!({"vr": "SQ", "Value": items}));
            }
        }
        let mut response = Response::new(Full::from(Value::from(body).to_string()));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static(DICOM_JSON);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

fn uid(uid: &Uid) -> Value {
    json!({"vr": "UI", "Value": [uid.as_str()]})
}
