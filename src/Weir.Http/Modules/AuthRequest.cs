// auth_request, auth_request_set: the answer to a subrequest decides about access: 2xx allows, 401 and 403 are passed
// on, everything else is an error. Values of the subrequest can be kept in variables.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>One auth_request_set.</summary>
internal readonly record struct AuthAssignment(Variable Variable, Template Value);

internal sealed class AuthRequestSettings
{
    public Inherited<string> Uri;
    public InheritedList<AuthAssignment> Assignments;
}

internal sealed class AuthRequestModule : HttpModule<AuthRequestSettings>
{
    public override string Name => "http_auth_request";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<AuthRequestSettings>("auth_request", static (u, s) => u.SetText(ref s.Uri));
        d.Location<AuthRequestSettings>("auth_request_set", AddAssignment);
    }

    private static void AddAssignment(DirectiveUse use, AuthRequestSettings settings)
    {
        if (use[0].Length < 2 || use[0][0] != '$')
        {
            use.Error(0, $"invalid variable name \"{use[0]}\"");
            return;
        }
        Variable? variable = use.Build.Configuration.Variables.Define(use[0][1..], out string? error);
        if (variable is null)
        {
            use.Error(0, error!);
            return;
        }
        variable.Get ??= static (Session.Session _, Variable _, ref NativeSlice _) => false;
        if (use.Template(1) is { } value)
        {
            settings.Assignments.Add(new AuthAssignment(variable, value));
        }
    }

    protected override void Merge(HttpBuild build, AuthRequestSettings parent, AuthRequestSettings child)
    {
        child.Uri.Merge(parent.Uri, "off");
        child.Assignments.Merge(parent.Assignments);
    }

    public override void InstallLocation(LocationInstall install)
    {
        AuthRequestSettings settings = install.Settings<AuthRequestSettings>(this);
        if (settings.Uri.Value != "off")
        {
            NativeArena memory = install.Build.Memory;
            install.Add(Phase.Access, install.Shared(settings, s =>
                new AuthRequestHandler(memory.Store(s.Uri.Value), s.Assignments.Array)));
        }
    }
}

internal sealed class AuthRequestHandler(NativeSlice uri, AuthAssignment[] assignments) : PhaseHandler
{
    public override async LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        HttpRequest? sub = SubRequest.Start(r, uri, default);
        if (sub is null)
        {
            return PhaseResult.Answer(500);
        }
        try
        {
            await SubRequest.RunAsync(sub);
            if (r.Aborted != AbortReason.None)
            {
                return PhaseResult.Answer(499);
            }
            foreach (ref readonly AuthAssignment assignment in assignments.AsSpan())
            {
                Assign(r, sub, in assignment);
            }
            return Decide(r, sub);
        }
        finally
        {
            SubRequest.End(sub);
        }
    }

    private static void Assign(HttpRequest r, HttpRequest sub, in AuthAssignment assignment)
    {
        NativeSlice value = r.Arena.Store(assignment.Value.Evaluate(sub).Span);
        if (assignment.Variable.Set is { } set)
        {
            set(r, assignment.Variable, value);
            return;
        }
        r.SetValue(assignment.Variable, value);
        sub.SetValue(assignment.Variable, value);
    }

    private static PhaseResult Decide(HttpRequest r, HttpRequest sub)
    {
        int status = sub.Response.Status;
        switch (status)
        {
            case 403:
                return PhaseResult.Answer(403);
            case 401:
                foreach (ref readonly ResponseField field in sub.Response.Fields)
                {
                    if (field.Known == KnownResponseHeader.WwwAuthenticate && !field.Removed)
                    {
                        r.Response.Add(NativeSlice.Literal("WWW-Authenticate"u8), r.Arena.Store(field.Value.Span),
                            KnownResponseHeader.WwwAuthenticate);
                    }
                }
                return PhaseResult.Answer(401);
            case >= 200 and < 300:
                return PhaseResult.Allow;
            default:
                r.LogError(LogLevel.Error, $"auth request unexpected status: {status}");
                return PhaseResult.Answer(500);
        }
    }
}
