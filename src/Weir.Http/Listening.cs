// The listening addresses of a configuration: which servers listen where, which one is the default, and the name table
// of each address.
using Weir.Conf;
using Weir.Kernel;

namespace Weir.Http;

/// <summary>A `listen` as written, before addresses are put together.</summary>
public sealed record ListenUse(
    ListenSpec Spec, ServerConf Server, bool IsDefault, bool ProxyProtocol, bool Tls, bool Http2, bool HasOptions,
        ConfSpan Span);

internal static class Listening
{
    internal static void Build(HttpBuild build)
    {
        var groups = new Dictionary<ListenSpec, ListenGroup>();
        var explicitDefault = new HashSet<ListenGroup>();
        foreach (ListenUse use in build.Configuration.Listens)
        {
            if (!groups.TryGetValue(use.Spec, out ListenGroup? group))
            {
                group = new ListenGroup
                {
                    Spec = use.Spec,
                    Configuration = build.Configuration,
                    DefaultServer = use.Server,
                    Names = new ServerNames(build.Memory),
                };
                groups.Add(use.Spec, group);
                build.Configuration.Groups.Add(group);
            }
            else if (use.HasOptions && !group.Spec.SameOptions(use.Spec))
            {
                if (group.OptionsSet)
                {
                    build.Errors.Emerg($"duplicate listen options for {use.Spec.Address}", use.Span, null);
                    continue;
                }
                group.Spec = use.Spec;
            }
            group.OptionsSet |= use.HasOptions;
            group.ProxyProtocol |= use.ProxyProtocol;
            group.Tls |= use.Tls;
            group.Http2 |= use.Http2;
            if (use.IsDefault)
            {
                if (!explicitDefault.Add(group))
                {
                    build.Errors.Emerg($"a duplicate default server for {use.Spec.Address}", use.Span, null);
                    continue;
                }
                group.DefaultServer = use.Server;
            }
            if (!group.Members.Add(use.Server))
            {
                build.Errors.Emerg($"a duplicate listen {use.Spec.Address}", use.Span, null);
                continue;
            }
            AddNames(build, group, use.Server);
        }
        foreach (ListenGroup group in build.Configuration.Groups)
        {
            if (group.Spec.Address.Family != SocketFamily.Unix && group.Spec.Address.IsWildcard)
            {
                group.Narrower.AddRange(build.Configuration.Groups.Where(g => g != group
                    && g.Spec.Address.Family == group.Spec.Address.Family
                    && g.Spec.Address.Port == group.Spec.Address.Port && !g.Spec.Address.IsWildcard));
            }
        }
    }

    private static void AddNames(HttpBuild build, ListenGroup group, ServerConf server)
    {
        foreach (ServerName name in server.ServerNames)
        {
            if (name.Text.Length > 0 && !group.Names.TryAdd(name, server))
            {
                build.Errors.Warn($"conflicting server name \"{name.Text}\" on {group.Spec.Address}, ignored", null,
                    null);
            }
        }
    }
}
