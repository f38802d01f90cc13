// Makes TLS contexts of servers' settings, once for servers that share them, and says what is wrong with certificates
// and keys in nginx's words at their line. Runs while a configuration is built, in the master and in every worker, off
// the loop; reads bytes through the build's resources alone.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;
using Weir.Session.Upstream;
using Weir.Tls;

namespace Weir.Http.Modules;

internal static class SslContexts
{
    internal const string DataScheme = "data:";

    internal static string FullPath(HttpBuild build, string path) =>
        path.StartsWith('/') ? path : Path.Join(build.Resources.ConfPrefix, path);

    /// <summary>Contexts for all servers that have certificates, and what listening addresses need.</summary>
    internal static void Build(HttpBuild build, SslModule module)
    {
        foreach (ServerConf server in build.Configuration.Servers)
        {
            var settings = (SslSettings)server.Modules[module.Index]!;
            server.RejectsHandshakes = settings.RejectHandshake.Value;
            if (settings.Certificates.Items.Length > 0 || server.RejectsHandshakes)
            {
                settings.Context ??= Make(build, settings, ResolverModule.Of(server.Location));
                server.Tls = settings.Context;
            }
        }
        foreach (ListenGroup group in build.Configuration.Groups)
        {
            if (group.Tls && build.Resources.TlsOf(group.Spec) is { } own)
            {
                group.DefaultServer.Tls = own.Context;
                group.TlsNames = own.Names;
            }
            else if (group.Tls && !build.Errors.Failed && Check(build, group))
            {
                group.TlsNames = new TlsServerNames(group, Names(build, default), Names(build, "\x02h2"u8))
                {
                    TakesEarlyData = group.Members.Append(group.DefaultServer).Any(s =>
                        ((SslSettings)s.Modules[module.Index]!).EarlyData.Value),
                };
            }
        }
    }

    /// <summary>Names for ALPN: one that is preferred, and HTTP/1's.</summary>
    private static NativeSlice Names(HttpBuild build, ReadOnlySpan<byte> first) =>
        build.Memory.Store([.. first, .. "\x08http/1.1\x08http/1.0\x08http/0.9"u8]);

    private static bool Check(HttpBuild build, ListenGroup group)
    {
        if (Complain(build, group.DefaultServer))
        {
            return false;
        }
        bool good = true;
        if (group.DefaultServer.RejectsHandshakes)
        {
            foreach (ServerConf server in group.Members)
            {
                good &= !Complain(build, server);
            }
        }
        return good;
    }

    private static bool Complain(HttpBuild build, ServerConf server)
    {
        if (server.Tls is not null)
        {
            return false;
        }
        ConfSpan at = server.Span;
        build.Errors.Emerg("no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive in "
            + $"{at.File.Path}:{at.Line}", null);
        return true;
    }

    private static TlsContext? Make(HttpBuild build, SslSettings s, ResolverSettings? resolver)
    {
        var maker = new Maker(build);
        TlsContext? context = TlsContext.Create((TlsProtocols)s.Protocols.Value, out string? error);
        if (context is null)
        {
            ReadOnlySpan<PlacedText> certificates = s.Certificates.Items;
            maker.Complain(error, certificates.IsEmpty ? null : certificates[0].Span);
            return null;
        }
        build.Configuration.Own(context);
        maker.AddCertificates(context, s);
        maker.Complain(context.SetCiphers(s.Ciphers.Value.Text, s.PreferServerCiphers.Value), s.Ciphers.Value.Span);
        maker.Complain(context.SetCurves(s.EcdhCurve.Value.Text), s.EcdhCurve.Value.Span);
        if (s.DhParam.Value.Text is { Length: > 0 } && maker.Read(s.DhParam.Value, "", out byte[] dh))
        {
            maker.Complain(context.SetDhParam(maker.Name(s.DhParam.Value), dh), s.DhParam.Value.Span);
        }
        maker.AddVerification(context, s);
        if (s.Compression.Value && !context.CompressCertificates())
        {
            build.Errors.Warn("\"ssl_certificate_compression\" is not supported on this platform, ignored", null);
        }
        if (s.Stapling.Value && s.StaplingFile.Value.Text is not { Length: > 0 })
        {
            SslOcsp.Staple(build, context, s, resolver);
        }
        else if (s.Stapling.Value && maker.Read(s.StaplingFile.Value, "", out byte[] response))
        {
            context.StapleResponse(response);
        }
        context.Owner = SslOcsp.Client(build, s, resolver);
        context.LimitRecords(s.BufferSize.Value);
        SessionCacheRule cache = s.SessionCache.Value;
        context.Resume(cache.Off, cache.Builtin, SslZones.Sessions(build, cache), s.SessionTickets.Value,
            maker.TicketKeys(s), s.SessionTimeoutSec.Value);
        if (s.EarlyData.Value && SslZones.ReplayGuard(build) is { } guard)
        {
            context.AcceptEarlyData(guard);
        }
        maker.AddCommands(context, s.ConfCommands.Items);
        context.FinishServer(context.Certificates is null ? "HTTP"
            : "HTTP " + string.Join(' ', s.Certificates.Items.ToArray().Select(static c => c.Text)));
        return context;
    }

    /// <summary>OpenSSL's words for a file that cannot be opened.</summary>
    internal static string OpenFailure(string path, int errno, string why)
    {
        string reason = errno == Errno.ENOENT ? "error:10000080:BIO routines::no such file"
            : "error:10080002:BIO routines::system lib";
        return $" (SSL: error:8{errno:X7}:system library::{why}:calling fopen({path}, r) {reason})";
    }

    /// <summary>One context while it is made.</summary>
    internal sealed class Maker(HttpBuild build)
    {
        internal void Complain(string? error, ConfSpan? span)
        {
            if (error is not null)
            {
                build.Errors.Emerg(error, span);
            }
        }

        /// <summary>The name that messages give a file.</summary>
        internal string Name(PlacedText text) =>
            text.Text.StartsWith(DataScheme, StringComparison.Ordinal) ? text.Text : FullPath(build, text.Text);

        /// <summary>The bytes of a file, or what stands behind `data:`.</summary>
        internal bool Read(PlacedText text, string what, out byte[] bytes)
        {
            bytes = [];
            if (text.Text.StartsWith(DataScheme, StringComparison.Ordinal))
            {
                bytes = System.Text.Encoding.Latin1.GetBytes(text.Text[DataScheme.Length..]);
                return true;
            }
            string path = FullPath(build, text.Text);
            byte[]? read = build.Resources.ReadFile(path, out string? error);
            bytes = read ?? [];
            if (read is not null)
            {
                return true;
            }
            string failure = OpenFailure(path, error!);
            Complain(what.Length > 0 ? $"cannot load {what} \"{path}\": BIO_new_file() failed{failure}"
                : $"BIO_new_file(\"{path}\") failed{failure}", text.Span);
            return false;
        }

        /// <summary>OpenSSL's words for a file that cannot be opened.</summary>
        private static string OpenFailure(string path, string error)
        {
            int open = error.LastIndexOf('(');
            int colon = error.IndexOf(':', Math.Max(open, 0));
            if (open < 0 || colon < 0 || !int.TryParse(error.AsSpan(open + 1, colon - open - 1), out int errno))
            {
                return $" ({error})";
            }
            return SslContexts.OpenFailure(path, errno, error[(colon + 2)..^1]);
        }

        internal void AddCertificates(TlsContext context, SslSettings s)
        {
            ReadOnlySpan<PlacedText> certificates = s.Certificates.Items;
            ReadOnlySpan<PlacedText> keys = s.CertificateKeys.Items;
            IReadOnlyList<TlsPassword> passwords = Passwords(s.PasswordFile.Value);
            if (certificates.Length > keys.Length)
            {
                Complain($"no \"ssl_certificate_key\" is defined for certificate \"{certificates[^1].Text}\"",
                    certificates[^1].Span);
                return;
            }
            if (HasVariables(certificates) || HasVariables(keys[..certificates.Length]))
            {
                CertificateLoader loader = Loader(passwords, s.CertificateCache.Value);
                context.FindCertificates(new SslDynamic(Compile(certificates), Compile(keys[..certificates.Length]),
                    loader));
                return;
            }
            for (int i = 0; i < certificates.Length; i++)
            {
                AddCertificate(context, certificates[i], keys[i], passwords);
            }
        }

        internal static bool HasVariables(ReadOnlySpan<PlacedText> texts)
        {
            foreach (PlacedText text in texts)
            {
                if (text.Text.Contains('$'))
                {
                    return true;
                }
            }
            return false;
        }

        internal CertificateLoader Loader(IReadOnlyList<TlsPassword> passwords, CertificateCacheRule? rule)
        {
            var loader = new CertificateLoader(build.Resources.ConfPrefix, passwords, rule);
            build.Configuration.Own(loader);
            return loader;
        }

        private Template[] Compile(ReadOnlySpan<PlacedText> texts)
        {
            var templates = new Template[texts.Length];
            for (int i = 0; i < templates.Length; i++)
            {
                templates[i] = Template(texts[i]);
            }
            return templates;
        }

        /// <summary>A text with variables; an error has been told where it is wrong.</summary>
        internal Template Template(PlacedText text)
        {
            Template? template = Session.Template.Compile(text.Text, build.Configuration.Variables, out string? error);
            Complain(error, text.Span);
            return template ?? Session.Template.Compile("", build.Configuration.Variables, out string? _)!;
        }

        internal void AddCertificate(TlsContext context, PlacedText file, PlacedText keyFile,
            IReadOnlyList<TlsPassword> passwords)
        {
            if (Read(file, "certificate", out byte[] certificate) && ReadKey(keyFile, out string name, out byte[] key))
            {
                Complain(context.AddCertificate(Name(file), certificate, name, key, passwords), file.Span);
            }
        }

        /// <summary>The bytes of a key; none where OpenSSL opens its place itself.</summary>
        private bool ReadKey(PlacedText text, out string name, out byte[] bytes)
        {
            const string what = "certificate key";
            name = text.Text;
            bytes = [];
            if (!TlsKeyPlaces.Is(name))
            {
                name = Name(text);
                return Read(text, what, out bytes);
            }
            if (TlsKeyPlaces.FileOf(name) is not { } file)
            {
                return true;
            }
            bytes = build.Resources.ReadFile(Path.GetFullPath(file), out string? error) ?? [];
            Complain(error is null ? null : $"cannot load {what} \"{name}\": OSSL_STORE_open() failed ({error})",
                text.Span);
            return error is null;
        }

        internal IReadOnlyList<TlsPassword> Passwords(PlacedText file)
        {
            if (file.Text is not { Length: > 0 } || !Read(file, "", out byte[] bytes))
            {
                return [];
            }
            var passwords = new List<TlsPassword>();
            foreach (Range range in bytes.AsSpan().Split((byte)'\n'))
            {
                ReadOnlySpan<byte> line = bytes.AsSpan()[range];
                if (line.Length > 0 && line[^1] == '\r')
                {
                    line = line[..^1];
                }
                if (line.Length > 0)
                {
                    passwords.Add(new TlsPassword(line.ToArray()));
                }
            }
            return passwords;
        }

        internal void AddVerification(TlsContext context, SslSettings s)
        {
            TlsVerify verify = s.VerifyClient.Value;
            PlacedText client = s.ClientCertificate.Value, trusted = s.TrustedCertificate.Value;
            bool hasClient = client.Text is { Length: > 0 }, hasTrusted = trusted.Text is { Length: > 0 };
            if (verify is TlsVerify.On or TlsVerify.Optional && !hasClient && !hasTrusted)
            {
                Complain("no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client", null);
                return;
            }
            context.VerifyClients(verify, s.VerifyDepth.Value);
            AddAuthorities(context, client, told: verify != TlsVerify.Off);
            AddAuthorities(context, trusted, told: false);
            AddRevocations(context, s.Crl.Value);
        }

        internal void AddAuthorities(TlsContext context, PlacedText file, bool told)
        {
            if (file.Text is { Length: > 0 } && ReadAuthorities(file, out byte[] bytes))
            {
                Complain(context.AddAuthorities(Name(file), bytes, told), file.Span);
            }
        }

        internal void AddRevocations(TlsContext context, PlacedText file)
        {
            if (file.Text is { Length: > 0 } && ReadAuthorities(file, out byte[] bytes))
            {
                Complain(context.AddRevocations(Name(file), bytes), file.Span);
            }
        }

        internal void AddCommands(TlsContext context, ReadOnlySpan<(string Name, string Value, ConfSpan Span)> commands)
        {
            foreach ((string name, string value, ConfSpan span) in commands)
            {
                Complain(context.Command(name, value, path => FullPath(build, path)), span);
            }
        }

        private bool ReadAuthorities(PlacedText text, out byte[] bytes)
        {
            string path = FullPath(build, text.Text);
            byte[]? read = build.Resources.ReadFile(path, out string? error);
            bytes = read ?? [];
            if (read is null)
            {
                Complain($"SSL_CTX_load_verify_locations(\"{path}\") failed{OpenFailure(path, error!)}", text.Span);
            }
            return read is not null;
        }

        internal ITlsTicketKeys? TicketKeys(SslSettings s)
        {
            if (s.TicketKeys.Items.IsEmpty)
            {
                return SslZones.TicketKeys(build, s.SessionTimeoutSec.Value);
            }
            var files = new List<byte[]>();
            foreach (PlacedText file in s.TicketKeys.Items)
            {
                if (Read(file, "", out byte[] bytes))
                {
                    files.Add(bytes);
                }
            }
            return files.Count == 0 ? null : new TlsFixedTicketKeys(files);
        }
    }
}
