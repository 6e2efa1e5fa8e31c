//! The actions on versions.

use model::{Function, FunctionState, Qualifier, Timestamp, Version};
use scf::action::{DeleteFunctionVersion, ListVersionByFunction, PublishVersion};
use scf::types as t;
use scf::{Code, Error};

use super::code::flag;
use super::functions::{change, descending, description, find, key, page};
use super::{Caller, Gateway, Serve, triggers};

impl Serve for PublishVersion {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::PublishVersionRequest,
    ) -> Result<t::PublishVersionResponse, Error> {
        let key = key(caller, &request.function_name, request.namespace.as_deref())?;
        let described = description(request.description.as_deref(), &gateway.limits)?;
        let published = change(gateway, &key, |function| {
            let number = publish(gateway, function, described.clone(), clock::now_ms())?;
            Ok((number, function.clone()))
        });
        let (number, function) = published.await?;
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

/// Publishes a version in the given record, which the caller must still store.
pub(super) fn publish(
    gateway: &Gateway,
    function: &mut Function,
    description: String,
    now: Timestamp,
) -> Result<u64, Error> {
    check_quota(gateway, function)?;
    if !matches!(
        function.state,
        FunctionState::Active | FunctionState::UpdateFailed
    ) {
        let message = format!(
            "function {} is {}",
            function.key.name,
            function.state.as_str()
        );
        return Err(Error::new(Code::FunctionStatusError, message));
    }
    function.publish(description, now).ok_or_else(|| {
        let message = "the function has no code; update it with a package";
        Error::new(Code::PublishVersionFailed, message)
    })
}

/// Checks that the quota allows another version.
pub(super) fn check_quota(gateway: &Gateway, function: &Function) -> Result<(), Error> {
    let most = gateway.limits.versions_per_function as usize;
    if function.versions.len() < most {
        return Ok(());
    }
    let message = format!("the function has its {most} versions already; delete some first");
    Err(Error::new(Code::LimitExceededFunctionVersions, message))
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
                let message = format!("OrderBy: {other:?} is not allowed; AddTime and ModTime are");
                return Err(Error::new(Code::InvalidOrderBy, message));
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
        delete(gateway, &key, &request.qualifier, force).await
    }
}

/// Deletes a published version. If aliases use it, `force` is required; see [`Function::unpublish`].
pub(super) async fn delete(
    gateway: &Gateway,
    key: &model::FunctionKey,
    qualifier: &str,
    force: bool,
) -> Result<t::Empty, Error> {
    let not_found = || {
        let shown: String = qualifier.chars().take(64).collect();
        let message = format!("Qualifier: function {} has no version {shown:?}", key.name);
        Error::new(Code::FunctionVersionNotFound, message)
    };
    let Ok(Version::Number(number)) = Version::parse(qualifier) else {
        return Err(Error::new(
            Code::InvalidQualifier,
            format!("Qualifier: {qualifier:?} is not allowed; numbers of published versions are"),
        ));
    };
    let version = Version::Number(number);
    change(gateway, key, |function| {
    if !function.versions.contains_key(&number) {
        return Err(not_found());
    }
    let bound = function.aliases_of(version);
    if !bound.is_empty() && !force {
        let message = format!(
            "version {number} is used by the aliases {}; change them first, or set ForceDelete to TRUE",
            bound.join(", ")
        );
        return Err(Error::new(Code::AliasBind, message));
    }
    if !force {
        let way_out = ", or set ForceDelete to TRUE";
        triggers::check_unbound(function, &Qualifier::Version(number), way_out)?;
    }
    function.unpublish(number);
    function.modified = clock::now_ms();
    Ok(())
    })
    .await?;
    Ok(t::Empty {})
}
