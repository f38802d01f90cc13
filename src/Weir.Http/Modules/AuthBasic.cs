// auth_basic, auth_basic_user_file: user name and password against a file of hashes. The file is read and the password
// hashed on a blocking thread, for every request as nginx does, so that a changed file is in force at once.
using Weir.Conf;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class AuthBasicSettings
{
    public Inherited<Template> Realm;
    public Inherited<Template> UserFile;
}

internal sealed class AuthBasicModule : HttpModule<AuthBasicSettings>
{
    public override string Name => "http_auth_basic";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<AuthBasicSettings>("auth_basic", static (u, s) => u.SetTemplate(ref s.Realm));
        d.Location<AuthBasicSettings>("auth_basic_user_file", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.UserFile)
                && u.TemplateOf(u[0].StartsWith('$') || u[0].StartsWith('/') ? u[0]
                    : Path.Join(u.Build.Resources.ConfPrefix, u[0]), 0) is { } path)
            {
                s.UserFile.Set(path);
            }
        });
    }

    protected override void Merge(HttpBuild build, AuthBasicSettings parent, AuthBasicSettings child)
    {
        child.Realm.Merge(parent.Realm, null!);
        child.UserFile.Merge(parent.UserFile, null!);
    }

    public override void InstallLocation(LocationInstall install)
    {
        AuthBasicSettings settings = install.Settings<AuthBasicSettings>(this);
        if (settings.Realm.Value is { Source: not "off" } realm && settings.UserFile.Value is { } file)
        {
            install.Add(Phase.Access, install.Shared((realm, file), static k => new AuthBasicHandler(k.realm, k.file)));
        }
    }
}

internal sealed class AuthBasicHandler(Template realm, Template file) : PhaseHandler
{
    private static readonly RequestSlot<PasswordCheck> s_slot = new();

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        NativeSlice name = realm.Evaluate(r);
        if (name.Span.SequenceEqual("off"u8))
        {
            return PhaseResult.Next;
        }
        if (!BasicCredentials.TryRead(r, out NativeSlice user, out NativeSlice password))
        {
            r.LogError(LogLevel.Info, "no user/password was provided for basic authentication");
            return Challenge(r, name);
        }
        return CheckAsync(r, name, user, password);
    }

    private async LoopTask<PhaseResult> CheckAsync(HttpRequest r, NativeSlice name, NativeSlice user,
        NativeSlice password)
    {
        PasswordCheck check = r.Rent(s_slot);
        NativeSlice path = file.EvaluatePath(r);
        check.Work.Start(path, user, password);
        await r.Loop.Blocking.RunAsync(check.Work);
        switch (check.Work.Outcome)
        {
            case PasswordOutcome.Right:
                return PhaseResult.Allow;
            case PasswordOutcome.Wrong:
                r.LogError(LogLevel.Error, $"user \"{user}\": password mismatch");
                return Challenge(r, name);
            case PasswordOutcome.NoSuchUser:
                r.LogError(LogLevel.Error, $"user \"{user}\" was not found in \"{path}\"");
                return Challenge(r, name);
            case PasswordOutcome.NoFile when check.Work.Errno == Errno.ENOENT:
                r.LogError(LogLevel.Error, $"open() \"{path}\" failed", check.Work.Errno);
                return PhaseResult.Answer(403);
            case PasswordOutcome.NoFile:
                r.LogError(LogLevel.Crit, $"open() \"{path}\" failed", check.Work.Errno);
                return PhaseResult.Answer(500);
            default:
                r.LogError(LogLevel.Crit, "crypt_r() failed", check.Work.Errno);
                return PhaseResult.Answer(500);
        }
    }

    private static PhaseResult Challenge(HttpRequest r, NativeSlice realm)
    {
        NativeSlice value = r.Arena.Allocate("Basic realm=\"\""u8.Length + realm.Length);
        "Basic realm=\""u8.CopyTo(value.Span);
        realm.Span.CopyTo(value.Span[13..]);
        value.Span[^1] = (byte)'"';
        r.Response.Add(NativeSlice.Literal("WWW-Authenticate"u8), value, KnownResponseHeader.WwwAuthenticate);
        return PhaseResult.Answer(401);
    }
}

internal enum PasswordOutcome
{
    Right,
    Wrong,
    NoSuchUser,
    NoFile,
    Failed,
}

/// <summary>The piece of work that a request rents.</summary>
internal sealed class PasswordCheck : RequestState
{
    internal PasswordWork Work { get; } = new();

    protected internal override void Reset()
    {
    }
}

/// <summary>Reads the file and verifies one password, on a blocking thread. The slices live in the waiting
/// request.</summary>
internal sealed class PasswordWork : BlockingOperation
{
    private const int FileBytesMax = 16 * 1024 * 1024;

    private NativeSlice _path;
    private NativeSlice _user;
    private NativeSlice _password;

    internal PasswordOutcome Outcome { get; private set; }
    internal int Errno { get; private set; }

    internal void Start(NativeSlice path, NativeSlice user, NativeSlice password)
    {
        _path = path;
        _user = user;
        _password = password;
        Errno = 0;
    }

    protected override void Work()
    {
        SysResult fd = Sys.Open(_path, Sys.O_RDONLY | Sys.O_CLOEXEC);
        if (fd.IsError)
        {
            Errno = fd.Errno;
            Outcome = PasswordOutcome.NoFile;
            return;
        }
        try
        {
            Outcome = Verify(Read(fd.Int));
        }
        finally
        {
            Sys.Close(fd.Int);
        }
    }

    private static byte[] Read(int fd)
    {
        using var memory = new NativeArena();
        if (Sys.Status(fd, out FileStatus status).IsError || status.Size > FileBytesMax)
        {
            return [];
        }
        NativeSlice bytes = memory.Allocate((int)status.Size);
        int length = 0;
        while (length < bytes.Length)
        {
            SysResult n = Sys.ReadAt(fd, bytes.Slice(length), length);
            if (n.IsError && n.Errno == Kernel.Errno.EINTR)
            {
                continue;
            }
            if (n.IsError || n.Int == 0)
            {
                break;
            }
            length += n.Int;
        }
        return bytes.Slice(0, length).Span.ToArray();
    }

    private PasswordOutcome Verify(ReadOnlySpan<byte> file)
    {
        while (!file.IsEmpty)
        {
            int end = file.IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = end < 0 ? file : file[..end];
            file = end < 0 ? default : file[(end + 1)..];
            if (line.IsEmpty || line[0] == '#')
            {
                continue;
            }
            int colon = line.IndexOf((byte)':');
            if (colon < 0 || !line[..colon].SequenceEqual(_user.Span))
            {
                continue;
            }
            ReadOnlySpan<byte> hash = line[(colon + 1)..];
            int stop = hash.IndexOfAny((byte)':', (byte)'\r');
            hash = stop < 0 ? hash : hash[..stop];
            SysResult result = PasswordHash.Verify(_password.Span, hash);
            if (result.IsError)
            {
                Errno = result.Errno;
                return PasswordOutcome.Failed;
            }
            return result.Int == 1 ? PasswordOutcome.Right : PasswordOutcome.Wrong;
        }
        return PasswordOutcome.NoSuchUser;
    }
}
