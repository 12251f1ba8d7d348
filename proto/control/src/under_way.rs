//! Calls that are under way when their caller's certificate is withdrawn: they end, and what they hold is given back.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

use crate::authority::{Withdrawal, not_accepted};

/// The answer of a call. It ends with an error when `withdrawal` comes, before its first message or between two.
pub(crate) async fn until_withdrawn(
    answer: impl Future<Output = Result<http::Response<Body>, Infallible>>,
    mut withdrawal: Withdrawal,
) -> Result<http::Response<Body>, Infallible> {
    tokio::select! {
        answered = answer => {
            Ok(answered?.map(|body| Body::new(UntilWithdrawn { body, withdrawal: Some(withdrawal) })))
        }
        why = &mut withdrawal => Ok(ended(why).into_http()),
    }
}

/// An answer's messages.
struct UntilWithdrawn {
    body: Body,
    /// None when it has come.
    withdrawal: Option<Withdrawal>,
}

impl http_body::Body for UntilWithdrawn {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(withdrawal) = &mut self.withdrawal else { return Poll::Ready(None) };
        if let Poll::Ready(why) = withdrawal.as_mut().poll(context) {
            self.withdrawal = None;
            self.body = Body::empty();
            let status = ended(why);
            let mut trailers = http::HeaderMap::new();
            return Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.withdrawal.is_none() || self.body.is_end_stream()
    }
}

fn ended(why: String) -> Status {
    tracing::warn!(reason = why, "call ended");
    not_accepted(why)
}
