// The profile that the ahead-of-time compiler optimises by names methods; one that is renamed or gone loses what was
// counted for it without a word. So the names are looked up here.
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using Weir.Tests.Unit.Conf;
using Xunit;

namespace Weir.Tests.Unit.Profile;

public sealed class ProfileTests
{
    /// <summary>Of our methods so many, in a hundred, must be there still; below it <c>bench/profile</c> is to be run
    /// again.</summary>
    private const int FoundMin = 90;

    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance
        | BindingFlags.Static | BindingFlags.DeclaredOnly;

    [Fact]
    public void Most_methods_of_the_profile_exist()
    {
        (int named, List<string> lost) = LookUp(Read());
        Assert.True(named > 400, $"the profile names {named} methods of ours");
        Assert.True(lost.Count * 100 <= named * (100 - FoundMin),
            $"{lost.Count} of {named} methods of the profile are gone; run bench/profile\n{string.Join('\n', lost)}");
    }

    /// <summary>What every request passes.</summary>
    [Theory]
    [InlineData("Weir.Http.Http1Driver.EndRequest")]
    [InlineData("Weir.Loop.SocketStream.Transmit")]
    [InlineData("Weir.Loop.EpollLoop.WaitAndDispatch")]
    [InlineData("Weir.Loop.UringLoop.Dispatch")]
    [InlineData("Weir.Protocol.Http1.RequestHeadParser.ParseHeaders")]
    public void The_hot_path_is_in_the_profile(string method) =>
        Assert.Contains(method, Read().Select(static m => m.Name));

    private static (int Named, List<string> Lost) LookUp(IEnumerable<(string Assembly, string Type, string Name)> all)
    {
        int named = 0;
        var lost = new List<string>();
        foreach ((string assembly, string type, string name) in all)
        {
            if (assembly != "weir" && !assembly.StartsWith("Weir.", StringComparison.Ordinal))
            {
                continue;
            }
            named++;
            string method = name[(type.Length + 1)..];
            // Nested types stand behind a plus in reflection's names and in these.
            if (Assembly.Load(assembly).GetType(type)?.GetMember(method, Declared) is not { Length: > 0 })
            {
                lost.Add(name);
            }
        }
        return (named, lost);
    }

    /// <summary>The methods of types that are not generic.</summary>
    private static List<(string Assembly, string Type, string Name)> Read()
    {
        string file = Path.Combine(GoldenConfTests.RepositoryRoot(), "src/Weir/weir.mibc");
        using var pe = new PEReader(File.OpenRead(file));
        MetadataReader reader = pe.GetMetadataReader();
        var methods = new List<(string, string, string)>();
        foreach (MemberReferenceHandle handle in reader.MemberReferences)
        {
            MemberReference member = reader.GetMemberReference(handle);
            if (member.Parent.Kind == HandleKind.TypeReference)
            {
                (string assembly, string type) = Name(reader, (TypeReferenceHandle)member.Parent);
                methods.Add((assembly, type, $"{type}.{reader.GetString(member.Name)}"));
            }
        }
        return methods;
    }

    private static (string Assembly, string Type) Name(MetadataReader reader, TypeReferenceHandle handle)
    {
        TypeReference type = reader.GetTypeReference(handle);
        string name = reader.GetString(type.Name);
        if (type.ResolutionScope.Kind == HandleKind.TypeReference)
        {
            (string assembly, string outer) = Name(reader, (TypeReferenceHandle)type.ResolutionScope);
            return (assembly, $"{outer}+{name}");
        }
        AssemblyReference scope = reader.GetAssemblyReference((AssemblyReferenceHandle)type.ResolutionScope);
        return (reader.GetString(scope.Name), $"{reader.GetString(type.Namespace)}.{name}");
    }
}
