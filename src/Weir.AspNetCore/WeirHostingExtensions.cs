// The two ways in: on a web host's builder, and on a collection of services. Both replace the server that is there.
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Weir.AspNetCore;

namespace Microsoft.AspNetCore.Hosting
{
    /// <summary>Weir as the server of a web host.</summary>
    public static class WeirWebHostBuilderExtensions
    {
        /// <summary>Serves the application with Weir instead of Kestrel.</summary>
        public static IWebHostBuilder UseWeir(this IWebHostBuilder builder, Action<WeirServerOptions>? configure = null)
        {
            ArgumentNullException.ThrowIfNull(builder);
            return builder.ConfigureServices(services => services.AddWeir(configure));
        }
    }
}

namespace Microsoft.Extensions.DependencyInjection
{
    /// <summary>Weir as a service.</summary>
    public static class WeirServiceCollectionExtensions
    {
        /// <summary>Makes Weir the server of the application: the last server that is registered serves.</summary>
        public static IServiceCollection AddWeir(this IServiceCollection services,
            Action<WeirServerOptions>? configure = null)
        {
            ArgumentNullException.ThrowIfNull(services);
            services.AddOptions();
            if (configure is not null)
            {
                services.Configure(configure);
            }
            services.RemoveAll<IServer>();
            services.AddSingleton<IServer, WeirHostServer>();
            return services;
        }
    }
}
