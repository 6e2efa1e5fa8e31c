//! The actions on versions.

use model::{FunctionState, Version};
use scf::Error;
use scf::action::{DeleteFunctionVersion, ListVersionByFunction, PublishVersion};
use scf::types as t;

use super::code::flag;
use super::error;
use super::functions::{find, key};
use super::page::{descending, page};
use super::{Caller, Gateway, Serve};

impl Serve for PublishVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PublishVersionRequest,
    ) -> Result<t::PublishVersionResponse, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let description = request.description.as_deref();
        let published = gateway.control.publish_version(&key, description);
        let (number, function) = published.await.map_err(error::control)?;
        let (published, key) = (&function.versions[&number], &function.key);
        Ok(t::PublishVersionResponse {
            function_version: number.to_string(),
            code_size: published.code.size as i64,
            memory_size: published.config.memory.mb().into(),
            description: published.description.clone(),
            handler: published.config.handler.as_str().to_owned(),
            timeout: published.config.timeout.get().into(),
            runtime: function.runtime.to_string(),
            namespace: key.namespace.to_string(),
        })
    }
}

impl Serve for ListVersionByFunction {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListVersionByFunctionRequest,
    ) -> Result<t::ListVersionByFunctionResponse, Error> {
        let stored = find(
            gateway,
            caller,
            &request.function_name,
            request.namespace.as_deref(),
        )?;
        let function = &stored.value;
        let (offset, limit) = page(request.offset, request.limit)?;
        let mut all = vec![t::FunctionVersion {
            version: Version::Latest.to_string(),
            description: function.config.description.clone(),
            add_time: clock::format(function.added),
            mod_time: clock::format(function.modified),
            status: function.state.as_str().into(),
        }];
        all.extend(
            function
                .versions
                .iter()
                .map(|(number, published)| t::FunctionVersion {
                    version: number.to_string(),
                    description: published.description.clone(),
                    add_time: clock::format(published.added),
                    mod_time: clock::format(published.added),
                    status: FunctionState::Active.as_str().into(),
                }),
        );
        match request.order_by.as_deref() {
            // Version numbers increase with time; `$LATEST` is the oldest.
            None | Some("" | "AddTime") => {}
            Some("ModTime") => all.sort_by(|a, b| a.mod_time.cmp(&b.mod_time)),
            Some(other) => {
                let message = format!("{other:?} is not allowed; AddTime and ModTime are");
                return Err(error::wire_field("OrderBy", message));
            }
        }
        if descending(request.order.as_deref())? {
            all.reverse();
        }
        let total_count = all.len() as i64;
        let versions: Vec<_> = all.into_iter().skip(offset).take(limit).collect();
        Ok(t::ListVersionByFunctionResponse {
            function_version: versions.iter().map(|one| one.version.clone()).collect(),
            versions,
            total_count,
        })
    }
}

impl Serve for DeleteFunctionVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteFunctionVersionRequest,
    ) -> Result<t::Empty, Error> {
        let force = flag("ForceDelete", request.force_delete.as_deref())?;
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let deleted = gateway
            .control
            .delete_version(&key, &request.qualifier, force);
        deleted.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}
