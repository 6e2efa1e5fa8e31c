//! Error responses, in the document format of each dialect.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use quick_xml::escape::escape;
use s3s::{Body, S3Error, S3ErrorCode};

use crate::s3::Dialect;

/// An error code with its HTTP status and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    /// Additional response headers.
    pub(crate) headers: Box<HeaderMap>,
}

/// Request data that an error document repeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorContext<'a> {
    pub(crate) dialect: Dialect,
    /// Host and path of the request.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) request: &'a str,
}

impl ErrorResponse {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            headers: Box::default(),
        }
    }

    /// Parses an error document.
    pub(crate) fn read(status: StatusCode, document: &str) -> Self {
        let part = |name: &str| {
            let (_, rest) = document.split_once(&format!("<{name}>"))?;
            let (text, _) = rest.split_once(&format!("</{name}>"))?;
            quick_xml::escape::unescape(text).ok().map(String::from)
        };
        let code = part("Code").unwrap_or_else(|| "InternalError".to_owned());
        Self::new(status, &code, part("Message").unwrap_or_default())
    }

    /// Builds the response.
    pub(crate) fn answer(self, context: &ErrorContext<'_>) -> Response<Body> {
        let error = match context.dialect {
            Dialect::S3 => self,
            Dialect::Cos => self.into_cos(),
        };
        let text = error.document(context);
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = error.status;
        *response.headers_mut() = *error.headers;
        let xml = HeaderValue::from_static("application/xml");
        response.headers_mut().insert(header::CONTENT_TYPE, xml);
        response
    }

    fn document(&self, context: &ErrorContext<'_>) -> String {
        let message = if self.message.is_empty() {
            &self.code
        } else {
            &self.message
        };
        let (code, message) = (escape(self.code.as_str()), escape(message.as_str()));
        let request = escape(context.request);
        match context.dialect {
            Dialect::S3 => {
                let resource = escape(context.path);
                format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
                     <Resource>{resource}</Resource><RequestId>{request}</RequestId></Error>"
                )
            }
            Dialect::Cos => {
                let resource = format!("{}{}", context.host, context.path);
                let resource = escape(resource.as_str());
                format!(
                    "<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n\t<Message>{message}</Message>\n\t\
                     <Resource>{resource}</Resource>\n\t<RequestId>{request}</RequestId>\n\t<TraceId>{request}</TraceId>\n</Error>\n"
                )
            }
        }
    }

    /// Translates the few error codes that COS names differently. Source: COS's page "Error Codes".
    fn into_cos(mut self) -> Self {
        let code = match self.code.as_str() {
            "KeyTooLongError" => "KeyTooLong",
            "MaxMessageLengthExceeded" => "EntityTooLarge",
            "InvalidStorageClass" => "InvalidArgument",
            _ => return self,
        };
        self.code = code.to_owned();
        self
    }
}

impl From<S3Error> for ErrorResponse {
    fn from(error: S3Error) -> Self {
        let status = error
            .status_code()
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut error_response = Self::new(
            status,
            error.code().as_str(),
            error.message().unwrap_or_default(),
        );
        error_response.headers = Box::new(error.headers().cloned().unwrap_or_default());
        error_response
    }
}

impl From<S3ErrorCode> for ErrorResponse {
    fn from(code: S3ErrorCode) -> Self {
        S3Error::new(code).into()
    }
}

/// Returns the name of the request id header.
pub(crate) fn id_header(dialect: Dialect) -> HeaderName {
    HeaderName::from_static(match dialect {
        Dialect::S3 => "x-amz-request-id",
        Dialect::Cos => "x-cos-request-id",
    })
}
